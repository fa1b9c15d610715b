"""Calibration in the large over an operation: mean forecast minus observed share in each fifth, over all videos.

A model can be calibrated over whole operations and still promise too much early and too little late, when it counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calot.statistics.frame_sums import VideoUnits
from calot.statistics.intervals import Interval
from calot.statistics.jackknife import interval_fields, plain_interval, without_each
from calot.statistics.metrics import sigmoid

Array = NDArray[np.float64]
PARTS = 5
RULE = "mean forecast minus observed share by fifth of the operation, first to last scored frame; 0 is calibrated"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One criterion: the difference in each fifth, in time order, and the last minus the first."""

    parts: tuple[Interval, ...]
    last_minus_first: Interval


def drift(labels: ArrayLike, *, logits: ArrayLike, units: VideoUnits, passed: ArrayLike) -> Drift:
    """`passed` is how far each frame lies in its operation, 0 to 1 (`subgroups.passed_share`)."""
    truth, place = np.asarray(labels, dtype=np.float64), np.asarray(passed, dtype=np.float64)
    part = np.minimum((PARTS * place).astype(int), PARTS - 1)
    off = sigmoid(logits) - truth
    values = [_differences(off, units=units, where=part == k) for k in range(PARTS)]
    each = tuple(_interval(item, reason="no scored frame in it") for item in values)
    change = values[-1] - values[0]
    return Drift(
        parts=each, last_minus_first=_interval(change, reason="no scored frame in the first or the last fifth")
    )


def _differences(off: Array, *, units: VideoUnits, where: NDArray[np.bool_]) -> Array:
    """The mean over the frames of one fifth, then without each video; NaN where none is left."""
    sums, frames = units.sums(off * where), units.sums(where)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.r_[sums.sum() / frames.sum(), without_each(sums) / without_each(frames)]
    return np.asarray(found, dtype=np.float64)


def _interval(values: Array, *, reason: str) -> Interval:
    value = None if np.isnan(values[0]) else float(values[0])
    return plain_interval(value, left_out=values[1:], reason=reason)


def drift_fields(found: Mapping[str, Drift]) -> dict[str, Any]:
    """Plain JSON values."""
    criteria = {
        name: {
            "parts": [interval_fields(item) for item in one.parts],
            "last_minus_first": interval_fields(one.last_minus_first),
        }
        for name, one in found.items()
    }
    return {"rule": RULE, "parts": PARTS, "criteria": criteria}
