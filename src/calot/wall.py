"""Where a run's wall time goes: seconds by part, each second in one part alone, kept in the run's `costs.json`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from calot.errors import CalotError
from calot.reading import read_record
from calot.writing import write_json

NAME = "costs.json"

#: What a run's time is spent on. `start-up` is what nothing else claims: imports, opening data, building the model.
Part = Literal[
    "start-up",
    "frame store",
    "features",
    "training",
    "evaluation",
    "rehearsal",
    "controls",
    "closing",
    "saving",
    "page",
]
PARTS: tuple[str, ...] = get_args(Part)


@dataclass
class _Meter:
    """Seconds by part so far; the part under way is the last of `open`, since `at` (a monotonic clock)."""

    spent: dict[str, float] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    at: float = field(default_factory=lambda: time.monotonic())

    def turn(self) -> None:
        """Give the time since the last turn to the part under way."""
        now = time.monotonic()
        if self.open:
            self.spent[self.open[-1]] = self.spent.get(self.open[-1], 0.0) + now - self.at
        self.at = now


_meters: list[_Meter] = []


@contextmanager
def measured(folder: Path) -> Iterator[None]:
    """Within it, time is measured for the run in this folder, and added to what earlier processes spent on it.

    A run that is killed loses the figures of its last process; one that was refused before it trained leaves none.
    """
    meter = _Meter(open=["start-up"])
    _meters.append(meter)
    try:
        yield
    finally:
        meter.turn()
        _meters.remove(meter)
        if folder.is_dir() and "training" in meter.spent:
            before = spent_by_part(folder)
            both = {part: before.get(part, 0.0) + meter.spent.get(part, 0.0) for part in PARTS}
            write_json(folder / NAME, {"format": 1, "seconds": {k: round(v, 3) for k, v in both.items() if v}})


@contextmanager
def spent_on(part: Part) -> Iterator[None]:
    """Within it, time counts as this part's, less what parts inside it take; nothing is measured outside a run."""
    meter = _meters[-1] if _meters else None
    if meter is None:
        yield
        return
    meter.turn()
    meter.open.append(part)
    try:
        yield
    finally:
        meter.turn()
        meter.open.pop()


def spent_by_part(folder: Path) -> Mapping[str, float]:
    """Seconds that a run's processes spent, by part; none where nothing was measured, or the file is damaged."""
    try:
        found = read_record(folder / NAME, remedy="remove it").get("seconds")
    except CalotError:
        return {}
    kept = found.items() if isinstance(found, dict) else ()
    return {k: float(v) for k, v in kept if k in PARTS and isinstance(v, int | float)}
