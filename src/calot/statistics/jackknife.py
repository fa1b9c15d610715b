"""95 % intervals for any statistic from its values without each video in turn, on the scale that suits it.

The coverage of these intervals was not simulated (that of AP, mAP and paired differences was: `coverage.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, stdtrit

from calot.statistics.intervals import LEVEL, MIN_VIDEOS, Interval, jackknife_logit_df, satterthwaite
from calot.statistics.rounding import how_many

Array = NDArray[np.float64]
NOT_SIMULATED = "coverage not simulated"
ONE_VIDEO_ALONE = "undefined without one of the videos: how it varies between videos cannot be estimated"
NO_SPREAD = "it is the same whichever video is left out: how it varies between videos cannot be estimated"


def proportion_interval(value: float | None, *, left_out: ArrayLike, reason: str | None = None) -> Interval:
    """`jackknife_logit_df` for a statistic in (0, 1); `reason` says why a value of None is undefined."""
    without = np.asarray(left_out, dtype=np.float64)
    if (none := _undefined(value, without, reason=reason)) is not None or value is None:
        return none or Interval(value=None, low=None, high=None, reason=reason)
    if 0.0 < value < 1.0 and np.ptp(without) < 1e-12:
        return Interval(value=value, low=None, high=None, reason=NO_SPREAD)
    return jackknife_logit_df(without, value=value)


def plain_interval(
    value: float | None, *, left_out: ArrayLike, floor: float | None = None, reason: str | None = None
) -> Interval:
    """Value +- t * se on the statistic's own scale, se and Satterthwaite's degrees of freedom from the jackknife.

    A value or a bound below `floor`, which the statistic itself cannot be, becomes `floor`.
    """
    without = np.asarray(left_out, dtype=np.float64)
    if (none := _undefined(value, without, reason=reason)) is not None or value is None:
        return none or Interval(value=None, low=None, high=None, reason=reason)
    count, squares = len(without), (without - without.mean()) ** 2
    error = float(np.sqrt((count - 1) / count * squares.sum()))
    if error <= 1e-12 * max(1.0, abs(value)):
        return _floored(Interval(value=value, low=None, high=None, reason=NO_SPREAD), floor)
    half = float(stdtrit(satterthwaite(squares), (1 + LEVEL) / 2)) * error
    return _floored(Interval(value=value, low=value - half, high=value + half), floor)


def exact_interval(part: int, *, whole: int, reason: str) -> Interval:
    """Clopper and Pearson (1934) for `part` of `whole` videos, each counted once: at least 95 % by construction."""
    if whole == 0:
        return Interval(value=None, low=None, high=None, reason=reason)
    tail = (1 - LEVEL) / 2
    low = float(betaincinv(part, whole - part + 1, tail)) if part else 0.0
    high = float(betaincinv(part + 1, whole - part, 1 - tail)) if part < whole else 1.0
    return Interval(value=part / whole, low=low, high=high)


def interval_fields(interval: Interval) -> dict[str, Any]:
    """Plain JSON values, with the reason where there is one."""
    fields: dict[str, Any] = {"value": interval.value, "low": interval.low, "high": interval.high}
    return fields if interval.reason is None else {**fields, "reason": interval.reason}


def without_each(sums: ArrayLike) -> Array:
    """Totals over all videos but one, for each video: `sums` has one row per video."""
    table = np.asarray(sums, dtype=np.float64)
    return np.asarray(table.sum(axis=0) - table, dtype=np.float64)


def _undefined(value: float | None, left_out: Array, *, reason: str | None) -> Interval | None:
    if value is None or np.isnan(value):
        return Interval(value=None, low=None, high=None, reason=reason)
    if len(left_out) < MIN_VIDEOS:
        few = f"{how_many(len(left_out), 'video')}: an interval over videos needs {MIN_VIDEOS}"
        return Interval(value=value, low=None, high=None, reason=few)
    if np.isnan(left_out).any():
        return Interval(value=value, low=None, high=None, reason=ONE_VIDEO_ALONE)
    return None


def _floored(interval: Interval, floor: float | None) -> Interval:
    if floor is None:
        return interval
    moved = {n: max(floor, v) for n in ("value", "low", "high") if (v := getattr(interval, n)) is not None}
    return replace(interval, **moved)
