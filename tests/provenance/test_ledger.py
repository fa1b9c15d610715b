"""The ledger: nothing lost between processes, nothing glued to a broken line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prediction_tables import clustered

from calot.cli.train import _enter
from calot.errors import CalotError
from calot.progress import Ui
from calot.provenance import ledger


def test_openings_of_test_are_counted_by_manifest(tmp_path: Path) -> None:
    assert ledger.test_openings(tmp_path, manifest_hash="m") == 0
    for manifest in ("m", "n", "m"):
        ledger.record(tmp_path, event=ledger.TEST_OPENED, manifest_hash=manifest)
    ledger.record(tmp_path, event="trained", manifest_hash="m")
    assert ledger.test_openings(tmp_path, manifest_hash="m") == 2
    assert [entry.event for entry in ledger.read(tmp_path)] == ["test_opened"] * 3 + ["trained"]


def test_equal_predictions_under_another_fingerprint_are_found(tmp_path: Path) -> None:
    ledger.record(tmp_path, event=ledger.PREDICTED, digest="d", fingerprint="e02", run="e02/run_1")
    assert ledger.equal_predictions(tmp_path, digest="d", fingerprint="e02") == ()
    found = ledger.equal_predictions(tmp_path, digest="d", fingerprint="e06")
    assert [entry.facts["run"] for entry in found] == ["e02/run_1"]


def test_several_processes_lose_no_line(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from calot.provenance import ledger\n"
        "for i in range(50): ledger.record(Path(sys.argv[1]), event='e', who=sys.argv[2], i=i, pad='x' * 5000)\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(who)]) for who in range(4)]
    assert [process.wait(timeout=120) for process in started] == [0] * 4
    lines = (tmp_path / ledger.NAME).read_text().splitlines()
    pairs = sorted((fields["who"], fields["i"]) for fields in map(json.loads, lines))
    assert pairs == sorted((str(who), i) for who in range(4) for i in range(50))


def test_of_two_runs_that_end_at_once_with_equal_predictions_one_hears_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one ends right before this one's line is written; had this one looked before that, none would know."""
    made = clustered(videos=2)
    real, heard = ledger.record, {}

    def enter(name: str) -> None:
        heard[name] = _enter(replace(made, fingerprint=name), folder=tmp_path / name, results=tmp_path, ui=Ui())

    def record(results: Path, *, event: str, **facts: Any) -> ledger.Entry:
        monkeypatch.setattr(ledger, "record", real)
        enter("e06")
        return real(results, event=event, **facts)

    monkeypatch.setattr(ledger, "record", record)
    enter("e02")
    assert heard == {"e06": [], "e02": [str(tmp_path / "e06")]}


@pytest.mark.parametrize("line", ["{", "[]", '{"event": "e"}', "", "null"])
def test_a_corrupt_line_is_named(tmp_path: Path, line: str) -> None:
    ledger.record(tmp_path, event="e")
    with (tmp_path / ledger.NAME).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(CalotError, match=r"ledger\.jsonl, line 2: not an entry"):
        ledger.read(tmp_path)


def test_nothing_is_appended_to_an_unfinished_line(tmp_path: Path) -> None:
    ledger.record(tmp_path, event="e")
    with (tmp_path / ledger.NAME).open("a") as stream:
        stream.write('{"event": "cut')
    before = (tmp_path / ledger.NAME).read_bytes()
    with pytest.raises(CalotError, match="line 2: unfinished"):
        ledger.record(tmp_path, event="f")
    with pytest.raises(CalotError, match="line 2: unfinished"):
        ledger.read(tmp_path)
    assert (tmp_path / ledger.NAME).read_bytes() == before


def test_facts_that_are_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalotError, match="JSON values"):
        ledger.record(tmp_path, event="e", value=float("nan"))
    assert ledger.read(tmp_path) == ()
