"""What no seed changes is measured once: taken over whole, never where code, data or experiment differ."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_requests import requested

from calot.config.overrides import apply_overrides
from calot.phantom import PhantomSpec, generate
from calot.pipeline import train_run
from calot.progress import Ui
from calot.provenance.audit import audit_run
from calot.provenance.receipt import Receipt, record_of
from calot.receipts import receipt as making
from calot.receipts import sanity, sharing
from calot.receipts.receipt import receipt_before
from calot.run.request import Request
from calot.run.signals import Stopper

REHEARSED = ("declared difference", "trainable parameters", "gradients", "loss terms", "switched off", "dose")


def asked(phantom: Path, home: Path, *, seed: int, changes: tuple[str, ...] = ()) -> Request:
    request = requested(phantom, home / f"s{seed}", "e03_focal", changes=changes, seed=seed)
    return replace(request, receipt=True, share_receipt=True, results=home)


def made(request: Request, *, controls: bool = False) -> Receipt:
    return receipt_before(request, ui=Ui(), results=request.results, controls=controls)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often a rehearsal and controls were really made."""
    found: list[str] = []
    real_training, real_overfit = making.training_checks, sanity.overfit

    def training(*args: Any, **how: Any) -> Any:
        found.append("rehearsal")
        return real_training(*args, **how)

    def overfit(*args: Any, **how: Any) -> Any:
        found.append("controls")
        return real_overfit(*args, **how)

    monkeypatch.setattr(making, "training_checks", training)
    monkeypatch.setattr(sanity, "overfit", overfit)
    return found


def test_another_seed_takes_the_checks_whole_and_names_the_run(
    phantom: Path, tmp_path: Path, counted: list[str]
) -> None:
    first, second = (made(asked(phantom, tmp_path, seed=seed), controls=True) for seed in (0, 1))
    assert counted == ["rehearsal", "controls"]
    assert [record_of(c) for c in first.checks] == [record_of(c) for c in second.checks]
    assert {(m.kind, m.run, m.seed) for m in second.measured} == {
        ("rehearsals", str(tmp_path / "s0"), 0),
        ("controls", str(tmp_path / "s0"), 0),
    }
    assert all(second.check(name).status in ("passed", "not applicable") for name in REHEARSED)


@pytest.mark.parametrize("differs", ["experiment", "code", "data", "kept file", "not asked to share"])
def test_checks_are_measured_anew_where_anything_differs(
    phantom: Path, tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch, differs: str
) -> None:
    made(asked(phantom, tmp_path, seed=0))
    other = asked(phantom, tmp_path, seed=1)
    if differs == "experiment":
        changed = apply_overrides(other.experiment, ["loss.gamma=3"])
        other = replace(other, experiment=changed)
    elif differs == "code":
        monkeypatch.setattr(sharing, "code_hash", lambda: "0" * 64)
    elif differs == "data":
        generate(tmp_path / "P", PhantomSpec(videos=6, mean_frames=24.0, min_frames=24, seed=11))
        other = replace(other, data=tmp_path / "P")
    elif differs == "kept file":
        (kept,) = (tmp_path / "rehearsals").iterdir()
        kept.write_text(kept.read_text().replace('"status": "not applicable"', '"status": "passed"'))
    else:
        other = replace(other, share_receipt=False)
    receipt = made(other)
    assert counted == ["rehearsal", "rehearsal"]
    assert [m.run for m in receipt.measured] == ([] if differs == "not asked to share" else [str(tmp_path / "s1")])


def test_a_failed_rehearsal_is_not_kept(phantom: Path, tmp_path: Path, counted: list[str]) -> None:
    inert = ("loss=FocalLoss(alpha=None,gamma=0.0)",)
    for seed in (0, 1):
        assert made(asked(phantom, tmp_path, seed=seed, changes=inert)).failed
    assert counted == ["rehearsal", "rehearsal"]
    assert not (tmp_path / "rehearsals").exists()


@pytest.fixture(scope="module")
def two_seeds(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trained seeds, the second with the first one's checks."""
    home = tmp_path_factory.mktemp("shared")
    for seed in (0, 1):
        train_run(asked(phantom, home, seed=seed, changes=("train.epochs=1",)), ui=Ui(), stopper=Stopper())
    return home


@pytest.mark.long
def test_an_audit_finds_copied_checks_whole(two_seeds: Path) -> None:
    for seed in (0, 1):
        assert audit_run(two_seeds / f"s{seed}").broken == ()


@pytest.mark.long
@pytest.mark.parametrize("planted", ["check", "digest", "code", "source", "forged"])
def test_an_audit_finds_copied_checks_that_were_changed(two_seeds: Path, tmp_path: Path, planted: str) -> None:
    run, source = tmp_path / "s1", tmp_path / "s0"
    for folder in (run, source):
        shutil.copytree(two_seeds / folder.name, folder)
        text = (folder / "receipt.json").read_text()
        (folder / "receipt.json").write_text(text.replace(str(two_seeds), str(tmp_path)))
        _forge(folder)  # the copies say where they are
    assert audit_run(run).broken == ()
    receipt = json.loads((run / "receipt.json").read_text())
    (dose,) = (check for check in receipt["checks"] if check["name"] == "dose")
    if planted == "check":
        dose["why"] = "as wanted"
    elif planted == "digest":
        receipt["measured"][0]["digest"] = "0" * 64
    elif planted == "code":
        environment = json.loads((run / "environment.json").read_text()) | {"code": "1" * 64}
        (run / "environment.json").write_text(json.dumps(environment))
    elif planted == "source":
        theirs = json.loads((source / "receipt.json").read_text())
        next(c for c in theirs["checks"] if c["name"] == "dose")["why"] = "as it really was"
        (source / "receipt.json").write_text(json.dumps(theirs))
        _forge(source)
    else:
        dose["why"] = "as wanted"
    (run / "receipt.json").write_text(json.dumps(receipt))
    if planted == "forged":
        _forge(run)
    said = {"code": "under another code", "source": "not those of", "forged": "not those of"}
    broken = audit_run(run).broken
    assert any(said.get(planted, "are not what was measured in") in line for line in broken), broken


def _forge(folder: Path) -> None:
    """Bind a receipt's checks anew, as somebody would who knows how."""
    receipt = Receipt.load(folder)
    assert receipt is not None
    records = [record_of(check) for check in receipt.checks]
    for old in receipt.measured:
        mine = [record for record in records if record["name"] in old.names]
        new = old.of(old.kind, mine, run=Path(old.run), seed=old.seed, under=old.under)
        receipt = receipt.with_measured(replace(new, names=old.names))
    receipt.write(folder)
    (folder / "seal.json").unlink(missing_ok=True)
