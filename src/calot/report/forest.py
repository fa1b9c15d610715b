"""Forest plots: one row for each point and its 95 % interval, laid out by the page to fit a phone or a desktop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from calot.criteria import CRITERIA
from calot.report.tables import KEYS, Cell, interval_text, points
from calot.statistics.intervals import Interval
from calot.statistics.outcome import PairedDifference


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row, in percent of the axis; `bar` and `point` are None where undefined, `colour` is a CSS variable."""

    name: str
    colour: str
    strong: bool
    point: float | None
    bar: tuple[float, float] | None
    chance: float | None
    value: Cell
    interval: Cell


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Intervals on one axis, laid out in the page itself."""

    title: str
    lines: Sequence[Line]
    ticks: Sequence[tuple[float, str]]
    zero: float | None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a row shows: a statistic with its interval and the value that chance gives."""

    name: str
    interval: Interval | PairedDifference
    chance: float | None = None
    criterion: str | None = None
    strong: bool = False


def forest(rows: Sequence[Estimate], *, title: str, close: bool = False) -> Forest:
    """Scores with a tick at chance: from 0 to 100 points, or `close`, no farther than all bars reach."""
    low, high, places = 0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1]
    if close:
        held = [b for r in rows for b in (r.interval.value, r.interval.low, r.interval.high, r.chance) if b is not None]
        low, high = max(0.0, min(held) - 0.01), min(1.0, max(held) + 0.01)
        places = [tick for tick in MaxNLocator(nbins=5).tick_values(low, high) if low <= tick <= high]
    ticks = [(_percent(value, low=low, high=high), f"{100 * value:.3g}") for value in places]
    return Forest(title=title, lines=[_line(row, low=low, high=high) for row in rows], ticks=ticks, zero=None)


def difference_forest(rows: Sequence[Estimate], *, title: str) -> Forest:
    """Differences around 0, which stands in the middle."""
    bounds = [b for row in rows for b in (row.interval.value, row.interval.low, row.interval.high) if b is not None]
    edge = 1.08 * max([0.05, *(abs(bound) for bound in bounds)])
    places = [tick for tick in MaxNLocator(nbins=5, symmetric=True).tick_values(-edge, edge) if abs(tick) <= edge]
    ticks = [
        (_percent(tick, low=-edge, high=edge), f"{100 * tick:+.3g}".replace("-", "−") if tick else "0")
        for tick in places
    ]
    lines = [_line(row, low=-edge, high=edge, sign=True) for row in rows]
    return Forest(title=title, lines=lines, ticks=ticks, zero=50.0)


def _line(row: Estimate, *, low: float, high: float, sign: bool = False) -> Line:
    found = row.interval
    defined = found.value is not None and math.isfinite(found.value)
    bar = None
    if defined and found.low is not None and found.high is not None:
        bar = (_percent(found.low, low=low, high=high), _percent(found.high, low=low, high=high))
    return Line(
        name=row.name,
        colour=f"var(--{KEYS[row.criterion]})" if row.criterion in CRITERIA else "var(--accent)",
        strong=row.strong,
        point=_percent(found.value, low=low, high=high) if defined and found.value is not None else None,
        bar=bar,
        chance=None if row.chance is None or not defined else _percent(row.chance, low=low, high=high),
        value=points(found.value, sign=sign),
        interval=interval_text(found.low, found.high, sign=sign) if bar else "",
    )


def _percent(value: float, *, low: float, high: float) -> float:
    return round(100 * (value - low) / (high - low), 2)
