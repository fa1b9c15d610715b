"""How wall time and peak memory grow with tokens, videos, frames, replicates and runs.

A curve is `value ~ n^slope` where it is a straight line on two logarithmic axes. The slope is least squares over the
last four sizes: at small ones a fixed cost hides what grows.
"""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calot.bench.side_by_side import Seconds, machine_and_load, one_torch_thread, seconds
from calot.memory import keep_freed_memory

FITTED = 4  # sizes that a slope is fitted to
SHORT, MOST_REPEATS = 0.1, 5  # seconds in which a round repeats a call, and how often at most
FIT = f"least squares of log value on log size, the last {FITTED} sizes"


@dataclass(frozen=True, kw_only=True)
class GrowthWork:
    """One call at one size, which does `share` of the work; its time is scaled to the whole, its memory is not."""

    call: Callable[[], object]
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class GrowthWay:
    """One way of doing the work, at each of its sizes; `naive` is what a script does without calot.

    `series` is its colour, the same in every panel for the same thing.
    """

    name: str
    what: str
    sizes: tuple[int, ...]
    work: Callable[[int], GrowthWork]
    series: int = 0
    naive: bool = False


@dataclass(frozen=True, kw_only=True)
class GrowthQuestion:
    """What grows (`over`), what is done, what stays the same, and how memory is measured."""

    over: str
    title: str
    fixed: str
    ways: tuple[GrowthWay, ...]
    megabytes: Callable[[Callable[[], object]], float]


@dataclass(frozen=True, kw_only=True)
class GrowthPoint:
    """Time of the whole work and peak memory of one call, at one size."""

    size: int
    seconds: Seconds
    megabytes: float

    def to_dict(self) -> dict[str, Any]:
        return {"size": self.size, "s": self.seconds.to_dict(), "mb": self.megabytes}


@dataclass(frozen=True, kw_only=True)
class GrowthCurve:
    """What one way took."""

    name: str
    what: str
    series: int
    naive: bool
    points: tuple[GrowthPoint, ...]

    @property
    def sizes(self) -> list[int]:
        return [point.size for point in self.points]

    @property
    def seconds(self) -> list[float]:
        return [point.seconds.median for point in self.points]

    @property
    def megabytes(self) -> list[float]:
        return [point.megabytes for point in self.points]

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": self.what,
            "naive": self.naive,
            "time_slope": fitted_slope(self.sizes, values=self.seconds),
            "memory_slope": fitted_slope(self.sizes, values=self.megabytes),
            "points": [point.to_dict() for point in self.points],
        }


@dataclass(frozen=True, kw_only=True)
class GrowthPanel:
    """The curves of one question."""

    over: str
    title: str
    fixed: str
    curves: tuple[GrowthCurve, ...]

    def to_dict(self) -> dict[str, Any]:
        curves = [curve.to_dict() for curve in self.curves]
        return {"over": self.over, "title": self.title, "fixed": self.fixed, "curves": curves}


def fitted_slope(sizes: Sequence[float], *, values: Sequence[float]) -> float | None:
    """The exponent of the size; None where the sizes are fewer than two, or a value is not positive."""
    n, value = np.array(sizes[-FITTED:], dtype=np.float64), np.array(values[-FITTED:], dtype=np.float64)
    if len(np.unique(n)) < 2 or not (value > 0).all():
        return None
    return float(np.polyfit(np.log(n), np.log(value), 1)[0])


def traced_megabytes(call: Callable[[], object]) -> float:
    """The most memory, in MB, that Python and NumPy held at one time in a call, above what they held before it."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        call()
        return (tracemalloc.get_traced_memory()[1] - before) / 1e6
    finally:
        tracemalloc.stop()


def measured_growth(questions: Sequence[GrowthQuestion], *, repeats: int) -> Iterator[GrowthPanel]:
    """A panel for each question as it is answered; freed memory is kept, as in training, and torch has one thread."""
    keep_freed_memory()
    with one_torch_thread():
        for question in questions:
            curves = tuple(_curve(way, megabytes=question.megabytes, repeats=repeats) for way in question.ways)
            yield GrowthPanel(over=question.over, title=question.title, fixed=question.fixed, curves=curves)


def _curve(way: GrowthWay, *, megabytes: Callable[[Callable[[], object]], float], repeats: int) -> GrowthCurve:
    """Sizes take turns, so that others on the machine slow all of them and not one.

    The first call only warms up; the one whose memory is measured is not timed, as measuring slows it.
    """
    works = [way.work(size) for size in way.sizes]
    for work in works:
        work.call()
    rounds = [[_timed(work) for work in works] for _ in range(repeats)]
    points = tuple(
        GrowthPoint(
            size=size,
            seconds=Seconds(runs=tuple(taken for runs in took for taken in runs)),
            megabytes=megabytes(work.call),
        )
        for size, work, took in zip(way.sizes, works, zip(*rounds, strict=True), strict=True)
    )
    return GrowthCurve(name=way.name, what=way.what, series=way.series, naive=way.naive, points=points)


def _timed(work: GrowthWork) -> list[float]:
    """One round's runs of the whole work: one, or several where a call is short."""
    runs: list[float] = []
    while not runs or (sum(runs) < SHORT and len(runs) < MOST_REPEATS):
        runs.append(seconds(work.call))
    return [taken / work.share for taken in runs]


def growth_to_dict(panels: Sequence[GrowthPanel], *, quick: bool, repeats: int) -> dict[str, Any]:
    """Every point and slope, with the machine."""
    settings = {"quick": quick, "repeats": repeats, **machine_and_load()}
    return {"bench": "growth", "fit": FIT, "panels": [panel.to_dict() for panel in panels], "settings": settings}


def growth_table(panels: Sequence[GrowthPanel]) -> list[str]:
    """The same in Markdown, one row per curve."""
    lines = [
        "| over | way | sizes | s, smallest to largest | time | MB, smallest to largest | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for panel in panels:
        for curve in panel.curves:
            sizes, took, held = curve.sizes, curve.seconds, curve.megabytes
            lines.append(
                f"| {panel.over} | {curve.name} | {sizes[0]:,} to {sizes[-1]:,} | {took[0]:.3g} to {took[-1]:.3g} "
                f"| {exponent(fitted_slope(sizes, values=took))} | {held[0]:.3g} to {held[-1]:.3g} "
                f"| {exponent(fitted_slope(sizes, values=held))} |"
            )
    return lines


def exponent(slope: float | None, *, digits: int = 2) -> str:
    """`n^1.96`; a slope that rounds to zero has no sign."""
    if slope is None or not math.isfinite(slope):
        return "-"
    return f"n^{round(slope, digits) + 0.0:.{digits}f}"
