"""What stands on the review page's seek bar: each criterion's calls as bars, its probability and the seeds' spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from calot.criteria import CRITERIA, label
from calot.statistics.assessment import Assessment
from calot.statistics.calls import passages
from calot.statistics.metrics import sigmoid

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A stretch with one call, as shares (%) of the operation."""

    css: str
    left: float
    width: float
    title: str


@dataclass(frozen=True, kw_only=True)
class CriterionTrack:
    """One criterion: bars, and its line and band drawn in a box `0 0 seconds 1`."""

    id: str
    name: str
    colour: str
    bars: tuple[Bar, ...]
    line: Markup
    band: Markup
    threshold: float | None  # height from the top, as a share
    scale: str


@dataclass(frozen=True, kw_only=True)
class FaultMark:
    """A fault on the seek bar and in the list."""

    kind: str
    note: str
    file: int
    start: float
    end: float
    left: float
    width: float


def tracks_of(made: Assessment) -> list[CriterionTrack]:
    """One track per criterion, in their order."""
    total, step = made.facts["seconds"], made.facts["plan"]["every_seconds"]
    seconds = made.scores["time"].to_numpy()
    return [
        _track(made, name=name, colour=f"c{k + 1}", seconds=seconds, total=total, step=step)
        for k, name in enumerate(CRITERIA)
    ]


def _track(made: Assessment, *, name: str, colour: str, seconds: Array, total: float, step: int) -> CriterionTrack:
    spans = passages(made.scores[f"call_{name}"].to_list(), seconds=seconds.astype(np.int64), step=step)
    frozen = made.facts["frozen_on_val"]
    heat = None if frozen is None else frozen["temperatures"][name]
    limit = None if frozen is None else frozen["thresholds"][name]
    scaled = {
        key: sigmoid(made.scores[column].to_numpy() / (heat or 1.0))
        for key in ("", "_low", "_high")
        if (column := f"logit_{name}{key}") in made.scores.columns
    }
    band = ""
    if "_low" in scaled:
        band = _area(seconds, low=scaled["_low"], high=scaled["_high"], step=step)
    return CriterionTrack(
        id=name,
        name=label(name),
        colour=colour,
        bars=tuple(_bar(s.what, start=s.start, end=min(s.end, total), total=total, name=label(name)) for s in spans),
        line=Markup(_line(seconds, heights=scaled[""], step=step)),
        band=Markup(band),
        threshold=None if limit is None else round(1 - float(sigmoid(limit / (heat or 1.0))), 4),
        scale="probability, scaled on val" if heat else "score, not calibrated",
    )


def _bar(what: str, *, start: float, end: float, total: float, name: str) -> Bar:
    return Bar(
        css=what.replace(" ", "-"),
        left=round(100 * start / total, 4),
        width=round(100 * (end - start) / total, 4),
        title=f"{name}: {what}",
    )


def _parts(seconds: Array, *, step: int) -> list[NDArray[np.intp]]:
    """Rows of each stretch without a gap."""
    return np.split(np.arange(len(seconds)), np.flatnonzero(np.diff(seconds) != step) + 1)


def _line(seconds: Array, *, heights: Array, step: int) -> str:
    """Steps, each as long as it was scored for, from the top of the box down."""
    drawn = []
    for part in _parts(seconds, step=step):
        points = [f"{seconds[i]:g},{1 - heights[i]:.3f} {seconds[i] + step:g},{1 - heights[i]:.3f}" for i in part]
        drawn.append("M" + " L".join(" L".join(point.split()) for point in points))
    return " ".join(drawn)


def _area(seconds: Array, *, low: Array, high: Array, step: int) -> str:
    drawn = []
    for part in _parts(seconds, step=step):
        over = [f"{x:g},{1 - high[i]:.3f}" for i in part for x in (seconds[i], seconds[i] + step)]
        under = [f"{x:g},{1 - low[i]:.3f}" for i in part[::-1] for x in (seconds[i] + step, seconds[i])]
        drawn.append("M" + " L".join([*over, *under]) + "Z")
    return " ".join(drawn)


def fault_marks(made: Assessment) -> list[FaultMark]:
    """Every fault, where it lies on the seek bar."""
    total = made.facts["seconds"]
    return [
        FaultMark(
            kind=fault["kind"],
            note=fault["note"],
            file=fault["file"],
            start=fault["start"],
            end=fault["end"],
            left=round(min(100.0, 100 * fault["start"] / total), 4),
            width=round(100 * max(0.0, min(fault["end"], total) - fault["start"]) / total, 4),
        )
        for fault in made.facts["faults"]
    ]
