"""Figures that are functions of sums over frames, with intervals over videos: Brier score, decisions, net benefit.

Sums add up over videos, so leaving a video out is a subtraction: exact, and as cheap as one pass over the frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calot.statistics.intervals import Interval
from calot.statistics.jackknife import plain_interval, proportion_interval, without_each
from calot.statistics.metrics import sigmoid

Array = NDArray[np.float64]
RATES = ("sensitivity", "specificity", "ppv", "npv", "f1", "balanced_accuracy")
#: Threshold probabilities at which net benefit is printed.
GRID = tuple(round(0.05 * step, 2) for step in range(1, 20))
_WHY = {
    "sensitivity": "no positive label",
    "specificity": "no negative label",
    "ppv": "no frame is called positive",
    "npv": "no frame is called negative",
    "f1": "no positive label and no positive call",
    "balanced_accuracy": "labels of one class only",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoUnits:
    """The video of each frame, numbered 0 ... count - 1."""

    index: NDArray[np.intp]
    count: int

    @classmethod
    def of(cls, videos: ArrayLike) -> VideoUnits:
        """Number the videos in sorted order."""
        names, index = np.unique(np.asarray(videos), return_inverse=True)
        return cls(index=index, count=len(names))

    def sums(self, values: ArrayLike) -> Array:
        """Sum of `values` over the frames of each video."""
        weights = np.asarray(values, dtype=np.float64)
        return np.asarray(np.bincount(self.index, weights=weights, minlength=self.count), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class BrierIntervals:
    """`value` on the logit scale, `skill` on its own; `..._left_out` are the jackknife's values, for a mean."""

    value: Interval
    skill: Interval
    value_left_out: Array
    skill_left_out: Array


@dataclass(frozen=True, kw_only=True)
class DecisionPoint:
    """Net benefit at one threshold probability; `gain` is the model's beyond the better of calling all and none."""

    probability: float
    model: Interval
    treat_all: Interval
    gain: Interval


def brier_intervals(targets: ArrayLike, *, logits: ArrayLike, units: VideoUnits) -> BrierIntervals:
    """Brier score and skill of sigmoid(logit) with intervals; the reference loses the same video."""
    target = np.asarray(targets, dtype=np.float64)
    middle = target - target.mean()  # a variance is the same from any origin, and exact near its mean
    error = (sigmoid(logits) - target) ** 2
    sums = np.stack([units.sums(v) for v in (np.ones_like(target), error, middle, middle**2)], axis=1)
    value, skill = _brier(sums.sum(axis=0)[None])
    values, skills = _brier(without_each(sums))
    equal = "every target is equal: the reference forecast is perfect"
    return BrierIntervals(
        value=proportion_interval(float(value[0]), left_out=values),
        skill=plain_interval(float(skill[0]), left_out=skills, reason=equal),
        value_left_out=values,
        skill_left_out=skills,
    )


def _brier(sums: Array) -> tuple[Array, Array]:
    frames, error, first, second = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        value, reference = error / frames, second / frames - (first / frames) ** 2
        return value, np.where(reference > 1e-12, 1.0 - value / reference, np.nan)


def decision_intervals(
    labels: ArrayLike, *, scores: ArrayLike, threshold: float, units: VideoUnits
) -> dict[str, Interval]:
    """Each rate of `metrics.decisions` at a fixed threshold, with its interval."""
    truth, called = np.asarray(labels).astype(bool), np.asarray(scores, dtype=np.float64) >= threshold
    cells = (called & truth, called & ~truth, ~called & truth, ~called & ~truth)
    sums = np.stack([units.sums(cell) for cell in cells], axis=1)
    point, without = _rates(sums.sum(axis=0)[None]), _rates(without_each(sums))
    return {
        name: proportion_interval(float(point[name][0]), left_out=without[name], reason=_WHY[name]) for name in RATES
    }


def _rates(sums: Array) -> dict[str, Array]:
    tp, fp, fn, tn = sums.T
    sensitivity, specificity = _share(tp, tp + fn), _share(tn, tn + fp)
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": _share(tp, tp + fp),
        "npv": _share(tn, tn + fn),
        "f1": _share(2 * tp, 2 * tp + fp + fn),
        "balanced_accuracy": (sensitivity + specificity) / 2,
    }


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def decision_points(
    labels: ArrayLike, *, logits: ArrayLike, units: VideoUnits, probabilities: Sequence[float] = GRID
) -> tuple[DecisionPoint, ...]:
    """The decision curve (Vickers and Elkin 2006) with intervals, on the scale of net benefit."""
    truth, forecast = np.asarray(labels).astype(bool), sigmoid(logits)
    grid = np.asarray(probabilities, dtype=np.float64)
    odds = grid / (1 - grid)
    passed = np.searchsorted(grid, forecast, side="right")  # how many thresholds call this frame positive
    right, wrong = (
        _called(passed[which], units.index[which], grid=len(grid), units=units) for which in (truth, ~truth)
    )
    frames, positives = units.sums(np.ones(len(truth))), units.sums(truth)
    gains = right - wrong * odds
    models = np.vstack([gains.sum(axis=0), without_each(gains)])
    n, share = (np.r_[values.sum(), without_each(values)][:, None] for values in (frames, positives))
    n[n == 0] = np.nan  # without its only video a set has no frame
    models, alls = models / n, share / n - (1 - share / n) * odds
    gain = models - np.maximum(alls, 0.0)
    found = []
    for j, p in enumerate(grid):
        model, treat_all, more = (
            plain_interval(float(table[0, j]), left_out=table[1:, j]) for table in (models, alls, gain)
        )
        found.append(DecisionPoint(probability=float(p), model=model, treat_all=treat_all, gain=more))
    return tuple(found)


def _called(passed: NDArray[np.intp], index: NDArray[np.intp], *, grid: int, units: VideoUnits) -> Array:
    """Frames called positive per video (rows) at each threshold (columns)."""
    counts = np.bincount(index * (grid + 1) + passed, minlength=units.count * (grid + 1)).reshape(units.count, grid + 1)
    return np.asarray(counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:], dtype=np.float64)
