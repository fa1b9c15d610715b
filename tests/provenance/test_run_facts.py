"""What a run's folder and the ledgers say of a result, and what they do not know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calot.errors import CalotError
from calot.provenance import ledger
from calot.provenance.data_ledger import DataLedger
from calot.provenance.run_facts import ELSEWHERE, LAST_EPOCH, SELECTION, RunFacts, candidates_of, changed_name, leaves
from calot.statistics.schema import UNKNOWN


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALOT_STATE", str(tmp_path / "state"))


def test_a_bare_file_knows_nothing_of_how_it_was_made() -> None:
    assert RunFacts.of(None) == RunFacts()


def test_a_run_knows_its_causality_and_selection_and_an_import_only_that_it_was_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(json.dumps({"causal": False, "window": "centred", "label_rule": "majority"}))
    (tmp_path / "metrics.csv").write_text("epoch\n1\n2\n3\n")
    found = RunFacts.of(tmp_path)
    assert found == RunFacts(causal=False, window="centred", trained_on="majority", selection=SELECTION, epochs=3)
    (tmp_path / "import.json").write_text("{}")
    assert (RunFacts.of(tmp_path).selection, RunFacts.of(tmp_path).epochs) == (ELSEWHERE, None)


@pytest.mark.parametrize(
    ("rows", "epochs", "selection"),
    [
        ("1,1,0.2\n2,1,0.3\n", 1, LAST_EPOCH),
        ("1,1,0.2\n1,2,0.3\n2,1,\n2,2,0.1\n", 1, LAST_EPOCH),
        ("1,1,0.2\n2,1,0.3\n2,2,0.4\n", 2, SELECTION),
        ("", None, SELECTION),
    ],
)
def test_an_epoch_is_chosen_among_those_of_the_last_stage(
    tmp_path: Path, rows: str, epochs: int | None, selection: str
) -> None:
    """An earlier stage's epochs are no candidates; the next stage begins with the best of them."""
    (tmp_path / "metrics.csv").write_text("stage,epoch,val_map\n" + rows)
    found = RunFacts.of(tmp_path)
    assert (found.epochs, found.selection) == (epochs, selection)


def test_a_damaged_description_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"causal": "yes"}')
    with pytest.raises(CalotError, match=r"data\.json: causal"):
        RunFacts.of(tmp_path)


def test_candidates_are_settings_and_results_of_this_data_set_each_counted_once(tmp_path: Path) -> None:
    record = DataLedger(manifest_hash="m", results=tmp_path)
    for fingerprint, digest in (("a", "1"), ("a", "2"), ("b", "3"), ("b", "3")):
        record.record(ledger.PREDICTED, split="val", fingerprint=fingerprint, digest=digest)
    record.record(ledger.PREDICTED, split="test", fingerprint="c", digest="4")
    DataLedger(manifest_hash="other", results=tmp_path).record(ledger.PREDICTED, fingerprint="d", digest="5")
    found = candidates_of(record)
    assert (found.settings, found.results) == (2, 3)
    assert str(found) == "2 settings in 3 val results recorded for this data set"


def test_candidates_that_nobody_counted_are_unknown_with_the_reason(tmp_path: Path) -> None:
    assert str(candidates_of(DataLedger(manifest_hash=UNKNOWN))) == "unknown: the table names no data set"
    nothing = candidates_of(DataLedger(manifest_hash="m", results=tmp_path))
    assert (nothing.settings, nothing.results) == (None, None)
    (tmp_path / ledger.NAME).write_text("not an entry\n")
    assert "line 1: not an entry" in str(candidates_of(DataLedger(manifest_hash="m", results=tmp_path)))


def test_a_changed_run_is_named_with_its_changes() -> None:
    change = {"typed": "lr=1e-2", "field": "train.lr", "value": 0.01}
    assert changed_name({"name": "e02", "overrides": [change]}) == "e02 train.lr=1e-2"
    assert changed_name({"name": "e02"}) == changed_name({"name": "e02", "overrides": "damaged"}) == "e02"


def test_a_run_is_not_named_by_what_is_no_part_of_its_treatment() -> None:
    typed = ("baseline=e02_frozen_probe", "compute.workers=2", "workers=2", "name=mine", "train.lr=1e-2")
    fields = ("baseline", "compute.workers", "compute.workers", "name", "train.lr")
    changes = [{"typed": text, "field": field} for text, field in zip(typed, fields, strict=True)]
    assert changed_name({"name": "mine", "overrides": changes}) == "mine train.lr=1e-2"


def test_fields_are_told_by_their_path_and_classes_by_their_owners() -> None:
    value = {"_type": "Experiment", "loss": {"_type": "FocalLoss", "gamma": 2.0}, "then": [1, 2]}
    assert leaves(value) == {"": "Experiment", "loss": "FocalLoss", "loss.gamma": 2.0, "then": [1, 2]}
