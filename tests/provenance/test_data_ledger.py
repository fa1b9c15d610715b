"""One count per data set, whatever results root, folder or machine asks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prediction_tables import clustered

from calot.cli.finishing import _enter
from calot.errors import CalotError
from calot.progress import Ui
from calot.provenance import ledger
from calot.provenance.data_ledger import DataLedger
from calot.provenance.ledger import PREDICTED, TEST_OPENED
from calot.state import STATE, state_folder


def of(manifest: str = "m", **places: Path) -> DataLedger:
    return DataLedger(manifest_hash=manifest, **places)


def test_openings_are_counted_by_data_set_wherever_results_go(tmp_path: Path) -> None:
    for root, manifest in (("r1", "m"), ("r2", "m"), ("r1", "n")):
        of(manifest, results=tmp_path / root).record(TEST_OPENED, run="x")
    asked = [of(), *(of(results=tmp_path / root) for root in ("r1", "r2", "elsewhere"))]
    assert [found.test_openings() for found in asked] == [2, 2, 2, 2]
    assert of("n").test_openings() == 1
    assert of("none").test_openings() == 0


def test_a_copy_is_counted_once_and_completes_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set's own folder tells another machine, whose state is another one."""
    data = tmp_path / "data"
    of(data=data, results=tmp_path / "r").record(TEST_OPENED)
    assert of(data=data, results=tmp_path / "r").test_openings() == 1
    monkeypatch.setenv(STATE, str(tmp_path / "other machine"))
    assert of().test_openings() == 0
    of(data=data, results=tmp_path / "r9").record(TEST_OPENED)
    assert of(data=data).test_openings() == 2
    assert of().test_openings() == 2


def test_openings_that_calot_0_1_wrote_count(tmp_path: Path) -> None:
    for _ in range(2):
        ledger.append(tmp_path, ledger.make_entry(TEST_OPENED, manifest_hash="m", run="r"))
    assert of(results=tmp_path).test_openings() == 2
    assert of(results=tmp_path).test_openings() == of().test_openings() == 2


def test_where_neither_state_nor_data_can_be_written_the_results_root_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(STATE, str(tmp_path / "file" / "state"))
    here = of(data=tmp_path / "file", results=tmp_path / "r")
    here.record(TEST_OPENED)
    assert here.test_openings() == 1
    with pytest.raises(CalotError, match=f"cannot be recorded: .* Set {STATE}"):
        of().record(TEST_OPENED)


def test_equal_predictions_under_another_fingerprint_are_found_in_any_results_root(tmp_path: Path) -> None:
    of(results=tmp_path / "r1").record(PREDICTED, digest="d", fingerprint="e02", run="e02/run_1", code="c")
    here = of(results=tmp_path / "r2")

    def twins(ledger: DataLedger, **how: str) -> list[str]:
        return [str(twin) for twin in ledger.twins({"digest": "d"}, split="val", **how)]

    assert twins(here, fingerprint="e02") == []
    assert twins(here, fingerprint="e06", code="c") == ["e02/run_1: the very same predictions"]
    assert twins(here, fingerprint="e06", code="a later version") == []
    assert twins(of("n"), fingerprint="e06") == []


def test_of_two_runs_that_end_at_once_with_equal_predictions_one_hears_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one ends right before this one's line is written; had this one looked before that, none would know."""
    made = clustered(videos=2)
    real, heard = DataLedger.record, {}

    def enter(name: str) -> None:
        heard[name] = _enter(replace(made, fingerprint=name), folder=tmp_path / name, results=tmp_path, ui=Ui())

    def record(self: DataLedger, event: str, **facts: Any) -> ledger.Entry:
        monkeypatch.setattr(DataLedger, "record", real)
        enter("e06")
        return real(self, event, **facts)

    monkeypatch.setattr(DataLedger, "record", record)
    enter("e02")
    assert heard == {"e06": [], "e02": [f"{tmp_path / 'e06'}: the very same predictions"]}


def test_the_state_folder_is_the_systems_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STATE)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_STATE_HOME", "given")
    assert state_folder() == Path("given/calot")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert state_folder() == Path.home() / ".local" / "state" / "calot"
