"""Receipts: the study's no-ops and others, planted again, are caught by name; honest experiments raise no alarm."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from calot.config.overrides import apply_overrides
from calot.criteria import CRITERIA
from calot.data import mixing, preparation
from calot.data.mixing import Mixed, Mixing
from calot.data.sampling import Balanced
from calot.data.transforms import HorizontalFlip
from calot.errors import CalotError
from calot.experiment import Experiment, scaled
from calot.experiments import find
from calot.models import masking
from calot.models.adaptation import LoRA, ParameterGroup, Unfreeze
from calot.progress import Ui
from calot.provenance.evidence import ControlsEvidence, DifferenceEvidence
from calot.provenance.receipt import CHECKS, Receipt, ReceiptCheck
from calot.receipts import sanity
from calot.receipts.attention import instruments_check
from calot.receipts.difference import declared_difference
from calot.receipts.dose import dose_check
from calot.receipts.gradients import training_checks
from calot.receipts.probe import ProbeData, probe_data
from calot.receipts.receipt import opening_receipt, receipt_before
from calot.receipts.sanity import controls_check
from calot.run.request import Request
from calot.train.losses import BCE
from calot.train.stage import Stage
from calot.types import QueryKey


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


def _dose(request: Request) -> ReceiptCheck:
    with _probing(request) as data:
        return dose_check(request.experiment, request=request, data=data)


# The study's three no-ops.


def test_a_positive_weight_that_is_never_used_is_an_inert_declared_difference(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = _request("e06_c2_weighted", phantom, tmp_path)
    assert _declared(request)["declared difference"].status == "passed"
    real = BCE.__call__
    monkeypatch.setattr(BCE, "__call__", lambda self, o, b: real(BCE(), o, b))
    found = _declared(request)
    assert found["declared difference"].status == "failed"
    assert "loss.pos_weight" in found["declared difference"].why
    assert found["switched off"].status == "failed"


def test_a_lora_target_that_matches_nothing_is_a_wrong_parameter_count(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = _request("e10b_lora_r32_qkv", phantom, tmp_path)
    _forget_keys(monkeypatch)
    check = _training(request)["trainable parameters"]
    assert (check.status, "k declares" in check.why) == ("failed", True)


def _forget_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft's silence about a missing target, and nobody who counts."""
    real = LoRA.config
    monkeypatch.setattr(LoRA, "config", lambda self, backbone: real(replace(self, targets=("q", "v")), backbone))

    def insert(self: LoRA, backbone: Any) -> None:
        from peft import inject_adapter_in_model

        inject_adapter_in_model(self.config(backbone), backbone.model)
        backbone.adapter = self

    monkeypatch.setattr(LoRA, "_insert", insert)


def test_supervision_of_detached_queries_and_keys_reaches_nothing(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = _request("e11_attention_supervision", phantom, tmp_path)
    assert _training(request)["loss terms"].status == "passed"
    _cut_gradient(monkeypatch)
    check = _training(request)["loss terms"]
    assert (check.status, "attention sends no gradient" in check.why) == ("failed", True)


def _cut_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    real = QueryKey.of
    monkeypatch.setattr(QueryKey, "of", lambda self, clips: _detached(real(self, clips)))


def _detached(qk: QueryKey) -> QueryKey:
    return replace(qk, query=qk.query.detach(), key=qk.key.detach())


@pytest.mark.parametrize("term", ["segmentation", "attention"])
def test_a_loss_term_of_next_to_no_weight_is_negligible(phantom: Path, tmp_path: Path, term: str) -> None:
    check = _training(_request("e11_attention_supervision", phantom, tmp_path, f"loss.terms.{term}.weight=1e-12"))
    assert (check["loss terms"].status, f"{term} is negligible" in check["loss terms"].why) == ("failed", True)


# Nine more.


def test_a_frozen_layer_listed_as_trainable_is_caught(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Unfreeze.apply

    def apply(self: Unfreeze, backbone: nn.Module) -> tuple[ParameterGroup, ...]:
        groups = real(self, backbone)
        groups[0].parameters[0].requires_grad_(False)
        return groups

    monkeypatch.setattr(Unfreeze, "apply", apply)
    check = _training(_request("e08_multitask", phantom, tmp_path))["trainable parameters"]
    assert (check.status, "listed but frozen" in check.why) == ("failed", True)


def test_an_adapter_on_an_unused_module_is_caught(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the study's adapters in the predictor: weights that train nothing because nothing calls them."""
    real = LoRA.apply

    def apply(self: LoRA, backbone: Any) -> tuple[ParameterGroup, ...]:
        (group,) = real(self, backbone)
        if not hasattr(backbone, "unused"):
            backbone.unused = nn.Linear(8, 8, bias=False)
        backbone.unused.requires_grad_(True)
        return (replace(group, parameters=(*group.parameters, backbone.unused.weight)),)

    monkeypatch.setattr(LoRA, "apply", apply)
    found = _training(_request("e10a_lora_r16", phantom, tmp_path))
    assert (found["gradients"].status, "backbone.unused.weight" in found["gradients"].why) == ("failed", True)
    assert found["trainable parameters"].status == "failed"


def test_smoothing_done_twice_is_caught(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = _request("e12_regularized", phantom, tmp_path)
    real = mixing.smooth_labels
    monkeypatch.setattr(
        preparation, "smooth_labels", lambda y, strength: real(real(y, strength=strength), strength=strength)
    )
    check = _dose(request)
    assert (check.status, "smoothed label" in check.why) == ("failed", True)


def test_mixing_that_never_fires_is_caught(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = _request("e12_regularized", phantom, tmp_path)
    monkeypatch.setattr(Mixing, "__call__", lambda self, batch, rng: Mixed(batch, None, np.ones(len(batch))))
    check = _dose(request)
    assert (check.status, "under mixup is 0" in check.why) == ("failed", True)


def test_a_sampler_that_is_uniform_is_caught(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = _request("e04_balanced", phantom, tmp_path)
    assert _dose(request).status == "passed"
    monkeypatch.setattr(Balanced, "order", lambda self, labels, rng: rng.permutation(len(labels)))
    check = _dose(request)
    assert (check.status, "sampled positive rate" in check.why) == ("failed", True)


def test_masks_that_are_not_flipped_with_their_frames_are_caught(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = _request("e08_multitask", phantom, tmp_path)
    assert _dose(request).status == "passed"
    real = HorizontalFlip.__call__
    monkeypatch.setattr(HorizontalFlip, "__call__", lambda s, b, rngs: replace(real(s, b, rngs=rngs), masks=b.masks))
    check = _dose(request)
    assert (check.status, "overlap of frames and masks" in check.why) == ("failed", True)


def test_supervision_on_the_wrong_layer_is_caught(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from calot.models import classifier

    request = _request("e11_attention_supervision", phantom, tmp_path)

    def instruments() -> ReceiptCheck:
        with _probing(request) as data:
            return instruments_check(request.experiment, request=request, data=data)

    assert instruments().status == "passed"
    real = classifier.tapped

    @contextmanager
    def first_layer(model: nn.Module, *, layers: tuple[int, ...]) -> Iterator[dict[int, Any]]:
        with real(model, layers=(0,)) as seen:
            yield _Renamed(seen, layers)

    monkeypatch.setattr(classifier, "tapped", first_layer)
    check = instruments()
    assert (check.status, "do not rebuild its output" in check.why) == ("failed", True)


class _Renamed(dict[int, Any]):
    """Layer 0 under other numbers."""

    def __init__(self, seen: dict[int, Any], layers: tuple[int, ...]) -> None:
        super().__init__()
        self.seen, self.layers = seen, layers

    def __bool__(self) -> bool:
        return bool(self.layers)

    def __contains__(self, number: object) -> bool:
        return number in self.layers

    def __getitem__(self, number: int) -> Any:
        return self.seen[0]


def test_a_mask_of_all_ones_is_caught(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from calot.models import classifier

    request = _request("e12_regularized", phantom, tmp_path)
    real = masking.anatomy_tokens
    monkeypatch.setattr(classifier, "anatomy_tokens", lambda values, by: torch.ones_like(real(values, by=by)))
    check = _dose(request)
    assert (check.status, "tokens masked" in check.why) == ("failed", True)


@pytest.mark.parametrize("criterion", ["two_structures", "hepatocystic_triangle", "cystic_plate"])
def test_the_probe_shows_a_weight_on_any_criterion(phantom: Path, tmp_path: Path, criterion: str) -> None:
    weights = [5.0 if c == criterion else 1.0 for c in CRITERIA]
    request = _request("e06_c2_weighted", phantom, tmp_path, f"loss.pos_weight={weights}")
    assert _declared(request)["declared difference"].status == "passed"


def test_a_second_stage_that_starts_from_scratch_is_caught(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from calot.pipeline import train_run
    from calot.run.signals import Stopper
    from calot.run.trainer import Trainer

    quick = ("train.epochs=1", "then.0.epochs=1", "compute.train_subset=8", "train.batch=8", "then.0.batch=8")
    request = _request("e09_staged", phantom, tmp_path / "run", *quick)
    monkeypatch.setattr("calot.pipeline.opening_receipt", lambda request, ui: _ready(request))

    def scratch(self: Trainer, stage: Any, real: Callable[..., Any] = Trainer.fit) -> Any:
        fit = real(self, stage)
        if self.progress.stage:
            nn.init.normal_(self.model.head[1].weight)
        return fit

    monkeypatch.setattr(Trainer, "fit", scratch)
    train_run(request, ui=Ui(), stopper=Stopper())
    receipt = Receipt.load(request.folder)
    assert receipt is not None
    (check,) = receipt.failed
    assert (check.name, "stage 2 did not start from the best" in check.why) == ("trainable parameters", True)


def _all_passed() -> tuple[ReceiptCheck, ...]:
    return tuple(ReceiptCheck(name=n, status="passed", why="") for n in CHECKS)


def _ready(request: Request) -> Receipt:
    return Receipt(experiment="", baseline=None, fingerprint=request.experiment.fingerprint(), checks=_all_passed())


# What is declared, refused, kept.


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
        "e04_balanced",
        "e08_multitask",
        "e11_attention_supervision",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in (
                "e03_focal",
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


def test_a_loop_that_does_not_heed_patience_is_caught(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from calot.train import loop

    request = _request("e02_frozen_probe", phantom, tmp_path)
    assert _dose(request).status == "passed"
    monkeypatch.setattr(loop, "_patient", lambda stage, progress: True)
    check = _dose(request)
    assert (check.status, "epochs of stage 1 without a gain is 12, declared 6" in check.why) == ("failed", True)


@pytest.mark.long
def test_a_linear_head_on_averaged_tokens_learns_its_clips(phantom: Path, tmp_path: Path) -> None:
    request = _request("e02_frozen_probe", phantom, tmp_path, "pooling=MeanPooling()", "head=LinearHead()")
    check = controls_check(request.experiment, request=request, results=tmp_path, ui=Ui())
    assert check.status == "passed", check.why
    assert isinstance(check.evidence, ControlsEvidence)
    assert check.evidence.overfit.lr > 2e-3  # at e02's own rate 150 steps are not enough


@pytest.mark.slow
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
    check = controls_check(request.experiment, request=request, results=tmp_path, ui=Ui())
    why = {"undealt": "the very scores of the true ones", "seen": "still rank val"}[planted]
    assert (check.status, why in check.why) == ("failed", True)


@pytest.mark.slow
def test_the_controls_learn_eight_clips_and_leave_shuffled_labels_at_chance(phantom: Path, tmp_path: Path) -> None:
    request = _request("e00_finetune", phantom, tmp_path)
    check = controls_check(request.experiment, request=request, results=tmp_path, ui=Ui())
    assert check.status == "passed", check.why
    (kept,) = (tmp_path / "controls").iterdir()
    again = controls_check(request.experiment, request=request, results=tmp_path, ui=Ui())
    assert (again.evidence, kept.exists()) == (check.evidence, True)
    assert isinstance(again.evidence, ControlsEvidence)
