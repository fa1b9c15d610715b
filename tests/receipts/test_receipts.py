"""Receipts: what is declared, refused and kept; honest experiments raise no alarm (`planted/` has the others)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calot.config.overrides import apply_overrides
from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.experiment import Experiment, scaled
from calot.experiments import find
from calot.progress import Ui
from calot.provenance.evidence import ControlsEvidence, DifferenceEvidence
from calot.provenance.receipt import CHECKS, Receipt, ReceiptCheck
from calot.receipts import sanity
from calot.receipts.difference import declared_difference
from calot.receipts.gradients import training_checks
from calot.receipts.probe import ProbeData, probe_data
from calot.receipts.receipt import opening_receipt, receipt_before
from calot.receipts.sanity import with_controls
from calot.run.request import Request
from calot.train.stage import Stage


def _request(name: str, phantom: Path, folder: Path, *changes: str) -> Request:
    found, results = find(name), folder / "results"
    experiment = apply_overrides(scaled(found.experiment, "tiny"), changes)
    where = {"data": phantom, "folder": folder, "results": results}
    return Request(found=found, experiment=experiment, scale="tiny", seed=0, **where)


@contextmanager
def _probing(request: Request) -> Iterator[ProbeData]:
    with probe_data(request.data, experiment=request.experiment, ui=Ui()) as data:
        yield data


def _training(request: Request) -> dict[str, ReceiptCheck]:
    with _probing(request) as data:
        return {c.name: c for c in training_checks(request.experiment, request=request, data=data)}


def _declared(request: Request) -> dict[str, ReceiptCheck]:
    experiment = request.experiment
    assert experiment.baseline is not None
    baseline = replace(scaled(find(experiment.baseline).experiment, "tiny"), compute=experiment.compute)
    with _probing(request) as data:
        return {c.name: c for c in declared_difference(experiment, baseline, request=request, data=data)}


def _controls(request: Request, results: Path) -> ReceiptCheck:
    with _probing(request) as data:
        none = Receipt(experiment=request.experiment.name, baseline=None, fingerprint="", checks=())
        receipt = with_controls(none, request.experiment, request=request, results=results, data=data)
    return receipt.check("controls")


@pytest.mark.parametrize("criterion", ["two_structures", "hepatocystic_triangle", "cystic_plate"])
def test_the_probe_shows_a_weight_on_any_criterion(phantom: Path, tmp_path: Path, criterion: str) -> None:
    weights = [5.0 if c == criterion else 1.0 for c in CRITERIA]
    request = _request("e06_c2_weighted", phantom, tmp_path, f"loss.pos_weight={weights}")
    assert _declared(request)["declared difference"].status == "passed"


def _all_passed() -> tuple[ReceiptCheck, ...]:
    return tuple(ReceiptCheck(name=n, status="passed", why="") for n in CHECKS)


def _ready(request: Request) -> Receipt:
    return Receipt(experiment="", baseline=None, fingerprint=request.experiment.fingerprint(), checks=_all_passed())


# What is declared, refused, kept.


@pytest.mark.long
def test_a_declared_difference_that_is_none_is_refused_before_training(phantom: Path, tmp_path: Path) -> None:
    request = _request("e06_c2_weighted", phantom, tmp_path / "run", "loss.pos_weight=[1,1,1]")
    with pytest.raises(CalotError, match=r"INVALID: receipt check declared difference, switched off failed"):
        opening_receipt(request, ui=Ui())
    assert not (request.folder / "receipt.json").exists()
    request.folder.mkdir(exist_ok=True)
    kept = opening_receipt(replace(request, despite_receipt=True), ui=Ui())
    assert {c.name for c in kept.failed} == {"declared difference", "switched off"}
    loaded = Receipt.load(request.folder)
    assert loaded is not None
    assert not loaded.passed


@pytest.mark.long
@pytest.mark.parametrize("name", ["e11_attention_supervision_l1", "e12_lora_r64"])
def test_another_setting_of_what_the_baseline_has_too_cannot_be_switched_off(
    phantom: Path, tmp_path: Path, name: str
) -> None:
    found = _declared(_request(name, phantom, tmp_path))
    assert found["declared difference"].status == "passed"
    assert found["switched off"].status in ("passed", "not applicable")


def test_a_change_of_a_shipped_experiment_is_held_against_it_as_shipped(phantom: Path, tmp_path: Path) -> None:
    receipt = receipt_before(
        _request("e02_frozen_probe", phantom, tmp_path, "train.lr=1e-3"), ui=Ui(), results=tmp_path, controls=False
    )
    assert receipt.baseline == "e02_frozen_probe as shipped"
    assert not receipt.failed


@pytest.mark.long
def test_a_receipt_fits_the_micro_batch_and_finds_the_same(phantom: Path, tmp_path: Path) -> None:
    whole = _training(_request("e11_attention_supervision", phantom, tmp_path))
    cut = _training(_request("e11_attention_supervision", phantom, tmp_path, "compute.micro_batch=3"))
    assert {n: (c.status, c.why) for n, c in cut.items()} == {n: (c.status, c.why) for n, c in whole.items()}
    assert {c.status for c in cut.values()} == {"passed"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "e02_frozen_probe",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in (
                "e03_focal",
                "e04_balanced",
                "e08_multitask",
                "e11_attention_supervision",
                "e05_focal_balanced",
                "e06_c2_weighted",
                "e09_staged",
                "e10a_lora_r16",
                "e10b_lora_r32_qkv",
                "e12_regularized",
                "e12_attention_bias",
                "videomae_lora",
                "dinov3_per_frame_lora",
            )
        ),
    ],
)
def test_an_honest_experiment_raises_no_alarm(phantom: Path, tmp_path: Path, name: str) -> None:
    receipt = receipt_before(_request(name, phantom, tmp_path), ui=Ui(), results=tmp_path, controls=False)
    assert receipt.failed == ()
    assert [c.name for c in receipt.checks] == list(CHECKS)


@pytest.mark.parametrize(
    ("name", "changes", "idle"),
    [
        pytest.param("e09_staged", ("train.epochs=3",), "train.patience", marks=pytest.mark.long),
        ("e02_frozen_probe", ("train.epochs=1", "train.patience=1"), "train.patience"),
    ],
)
def test_a_patience_that_a_shortened_run_cannot_reach_is_told_and_not_refused(
    phantom: Path, tmp_path: Path, name: str, changes: tuple[str, ...], idle: str
) -> None:
    request = _request(name, phantom, tmp_path, *changes)
    receipt = receipt_before(request, ui=Ui(), results=tmp_path, controls=False)
    check = receipt.check("declared difference")
    assert receipt.failed == ()
    assert f"{idle}: not binding at this length" in check.why
    assert isinstance(check.evidence, DifferenceEvidence)
    assert [f.field for f in check.evidence.fields if f.verdict == "not binding"] == [idle]


def test_a_patience_that_never_binds_is_no_treatment_by_itself(phantom: Path, tmp_path: Path) -> None:
    baseline = apply_overrides(scaled(find("e02_frozen_probe").experiment, "tiny"), ["train.epochs=3"])
    request = replace(
        _request("e02_frozen_probe", phantom, tmp_path), experiment=replace(baseline, train=_patient(baseline, 9))
    )
    with _probing(request) as data:
        first, off = declared_difference(request.experiment, baseline, request=request, data=data)
    assert (first.status, off.status) == ("passed", "failed")
    assert "nothing differs from the baseline" in off.why


def _patient(experiment: Experiment, patience: int) -> Stage:
    return replace(experiment.train, patience=patience)


@pytest.mark.long
def test_a_linear_head_on_averaged_tokens_learns_its_clips(phantom: Path, tmp_path: Path) -> None:
    changes = ("backbone.weights=None", "pooling=MeanPooling()", "head=LinearHead()")  # features that hardly differ
    request = _request("e02_frozen_probe", phantom, tmp_path, *changes)
    check = _controls(request, tmp_path)
    assert check.status == "passed", check.why
    assert isinstance(check.evidence, ControlsEvidence)
    assert check.evidence.overfit.lr > 2e-3  # at e02's own rate 150 steps are not enough


@pytest.mark.long
@pytest.mark.parametrize("planted", ["undealt", "seen"])
def test_labels_that_are_not_dealt_or_are_seen_in_scoring_are_caught_by_the_controls(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    real = sanity.val_logits

    def seen(*args: Any, **how: Any) -> tuple[Any, Any]:
        logits, labels = real(*args, **how)
        return logits + 10.0 * labels, labels

    if planted == "undealt":
        monkeypatch.setattr(sanity, "dealt", lambda dataset, deal: dataset)
    else:
        monkeypatch.setattr(sanity, "val_logits", seen)
    request = _request("e02_frozen_probe", phantom, tmp_path)
    check = _controls(request, tmp_path)
    why = {"undealt": "the very scores of the true ones", "seen": "still rank val"}[planted]
    assert (check.status, why in check.why) == ("failed", True)


@pytest.mark.long
def test_the_controls_learn_eight_clips_and_leave_shuffled_labels_at_chance(phantom: Path, tmp_path: Path) -> None:
    request = _request("e00_finetune", phantom, tmp_path)
    check = _controls(request, tmp_path)
    assert check.status == "passed", check.why
    (kept,) = (tmp_path / "controls").iterdir()
    again = _controls(request, tmp_path)
    assert (again.evidence, kept.exists()) == (check.evidence, True)
    assert isinstance(again.evidence, ControlsEvidence)
