"""Checks measured once for several runs: bound to their conditions, found out when any of it is changed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from calot.errors import CalotError
from calot.provenance.evidence import ParametersEvidence, StageStart
from calot.provenance.measured import CONDITIONS, Measured, keep_measured, kept_measured, measured_place
from calot.provenance.receipt import Receipt, ReceiptCheck, record_of

UNDER = {name: f"this {name}" for name in CONDITIONS}
CHECKS = (
    ReceiptCheck(name="dose", status="passed", why="as declared"),
    ReceiptCheck(name="trainable parameters", status="passed", why="9 train", evidence=ParametersEvidence()),
)


def measured(run: Path) -> Measured:
    return Measured.of("rehearsals", [record_of(check) for check in CHECKS], run=run, seed=3, under=UNDER)


def test_they_hold_in_any_order_and_as_training_completes_them(tmp_path: Path) -> None:
    start = StageStart(stage=2, best_epoch_before=1, apart=())
    grown = replace(CHECKS[1], why="9 train; 1 later stage", evidence=ParametersEvidence(starts=(start,)))
    other = ReceiptCheck(name="ledger", status="passed", why="no twin")
    assert measured(tmp_path).holds([record_of(check) for check in (grown, other, CHECKS[0])])


@pytest.mark.parametrize("change", ["status", "why", "evidence", "missing", "under", "run", "seed"])
def test_whatever_is_changed_they_do_not_hold(tmp_path: Path, change: str) -> None:
    found, records = measured(tmp_path), [record_of(check) for check in CHECKS]
    if change in ("under", "run", "seed"):
        new = {"under": UNDER | {"code": "other code"}, "run": "elsewhere", "seed": 4}[change]
        found = replace(found, **{change: new})
    elif change == "missing":
        records = records[1:]
    else:
        records[0][change] = {"status": "not applicable", "why": "better", "evidence": {"_type": "x"}}[change]
    assert not found.holds(records)


@pytest.mark.parametrize("differs", CONDITIONS)
def test_they_are_refused_where_any_condition_differs(tmp_path: Path, differs: str) -> None:
    keep_measured(measured(tmp_path), [record_of(check) for check in CHECKS], results=tmp_path)
    assert kept_measured(tmp_path, "rehearsals", under=UNDER) is not None
    assert kept_measured(tmp_path, "controls", under=UNDER) is None
    changed = UNDER | {differs: "another"}
    assert kept_measured(tmp_path, "rehearsals", under=changed) is None
    measured_place(tmp_path, "rehearsals", under=UNDER).rename(measured_place(tmp_path, "rehearsals", under=changed))
    assert kept_measured(tmp_path, "rehearsals", under=changed) is None  # under another's name


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"measured": 1, "checks": 2}', '{"measured": {}, "checks": []}']
)
def test_a_file_that_is_not_whole_is_none(tmp_path: Path, text: str) -> None:
    path = keep_measured(measured(tmp_path), [record_of(check) for check in CHECKS], results=tmp_path)
    path.write_text(text)
    assert kept_measured(tmp_path, "rehearsals", under=UNDER) is None


def test_a_kept_check_that_was_changed_is_none(tmp_path: Path) -> None:
    path = keep_measured(measured(tmp_path), [record_of(check) for check in CHECKS], results=tmp_path)
    path.write_text(path.read_text().replace("as declared", "as wanted"))
    assert kept_measured(tmp_path, "rehearsals", under=UNDER) is None


def test_a_receipt_keeps_where_its_checks_were_measured(tmp_path: Path) -> None:
    found = measured(tmp_path / "first")
    receipt = Receipt(experiment="e", baseline=None, fingerprint="f", checks=()).with_checks(CHECKS)
    receipt.with_measured(found).write(tmp_path)
    read = Receipt.load(tmp_path)
    assert read is not None
    assert read.measured == (found,)
    assert found.holds([record_of(check) for check in read.checks])
    data = json.loads((tmp_path / "receipt.json").read_text())
    data["measured"][0]["under"].pop("code")
    (tmp_path / "receipt.json").write_text(json.dumps(data))
    with pytest.raises(CalotError, match=r"receipt\.json.*does not say where checks were measured"):
        Receipt.load(tmp_path)
