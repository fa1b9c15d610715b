"""Each second of a run stands in one part, and a resumed run adds to what was there."""

import json
import time
from pathlib import Path

from calot.wall import NAME, measured, spent_by_part, spent_on


def test_a_part_inside_another_takes_its_time_from_it(tmp_path: Path) -> None:
    with measured(tmp_path), spent_on("training"):
        time.sleep(0.1)
        with spent_on("evaluation"):
            time.sleep(0.2)
        time.sleep(0.1)
    spent = spent_by_part(tmp_path)
    assert set(spent) <= {"start-up", "training", "evaluation"}
    assert 0.2 <= spent["training"] < 0.3
    assert 0.2 <= spent["evaluation"] < 0.3


def test_what_nothing_claims_is_start_up_and_a_second_process_adds(tmp_path: Path) -> None:
    for _ in range(2):
        with measured(tmp_path):
            time.sleep(0.1)
    assert 0.2 <= spent_by_part(tmp_path)["start-up"] < 0.3


def test_an_error_loses_no_time_and_a_refused_run_gets_no_folder(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "refused"):
        try:
            with measured(folder), spent_on("rehearsal"):
                time.sleep(0.05)
                raise ValueError
        except ValueError:
            pass
    assert spent_by_part(tmp_path)["rehearsal"] >= 0.05
    assert not (tmp_path / "refused").exists()


def test_outside_a_run_nothing_is_measured_and_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    with spent_on("training"):
        pass
    assert spent_by_part(tmp_path) == {}
    for text in ("{", "[]", json.dumps({"seconds": {"training": "long", "other": 1.0}})):
        (tmp_path / NAME).write_text(text)
        assert spent_by_part(tmp_path) == {}
