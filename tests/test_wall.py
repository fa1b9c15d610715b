"""Each second of a run stands in one part, and a resumed run adds to what was there."""

import json
from pathlib import Path

import pytest

from calot import wall
from calot.wall import NAME, measured, spent_by_part, spent_on


class Clock:
    """A clock that goes on when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def goes_on(self, seconds: float) -> None:
        self.now += seconds

    def fails_after(self, seconds: float, error: Exception) -> None:
        self.goes_on(seconds)
        raise error


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(wall.time, "monotonic", made.monotonic)
    return made


def test_a_part_inside_another_takes_its_time_from_it(tmp_path: Path, clock: Clock) -> None:
    with measured(tmp_path):
        clock.goes_on(1)
        with spent_on("training"):
            clock.goes_on(2)
            with spent_on("evaluation"):
                clock.goes_on(4)
            clock.goes_on(8)
        clock.goes_on(16)
    assert spent_by_part(tmp_path) == {"start-up": 17.0, "training": 10.0, "evaluation": 4.0}


def test_a_second_process_adds_to_the_first(tmp_path: Path, clock: Clock) -> None:
    for _ in range(2):
        with measured(tmp_path):
            clock.goes_on(1)
            with spent_on("training"):
                clock.goes_on(2)
    assert spent_by_part(tmp_path) == {"start-up": 2.0, "training": 4.0}


def test_an_error_in_training_loses_no_time(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(ValueError, match="diverged"), measured(tmp_path), spent_on("training"):
        clock.fails_after(3, ValueError("diverged"))
    assert spent_by_part(tmp_path)["training"] == 3.0


def test_a_run_refused_before_it_trained_leaves_nothing(tmp_path: Path, clock: Clock) -> None:
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(ValueError, match="refused"), measured(folder), spent_on("rehearsal"):
            clock.fails_after(3, ValueError("refused"))
    assert list(tmp_path.iterdir()) == []


def test_outside_a_run_nothing_is_measured_and_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    with spent_on("training"):
        pass
    assert spent_by_part(tmp_path) == {}
    for text in ("{", "[]", json.dumps({"seconds": {"training": "long", "other": 1.0}})):
        (tmp_path / NAME).write_text(text)
        assert spent_by_part(tmp_path) == {}
