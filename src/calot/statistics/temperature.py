"""Temperature scaling (Guo et al. 2017): probabilities as sigmoid(logit / T), one T per criterion, fitted on val.

Ranks, and with them AP, stay as they are. On the table that the temperatures were fitted on, each video is scaled with
the temperature of the *other* videos, so that no frame helped to choose what it is scaled with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.calibration import calibration
from calot.statistics.calibration_error import CalibrationError, calibration_error, slope_intervals
from calot.statistics.frame_sums import BrierIntervals, VideoUnits, brier_intervals
from calot.statistics.intervals import Interval
from calot.statistics.jackknife import interval_fields, plain_interval, without_each
from calot.statistics.metrics import sigmoid
from calot.statistics.predictions import Predictions

Array = NDArray[np.float64]
RULE = "lowest negative log-likelihood of sigmoid(logit / T) on the split named, one T per criterion"
ON_ITSELF = "each video with the temperature fitted on the other videos"
FROZEN = "with the temperatures frozen on val"
NOT_FROZEN = "no temperatures frozen on val (val.parquet beside the table, or --frozen)"
_STEPS = 100
_LARGEST = 1e4  # a finite best T lies far inside 1 / _LARGEST ... _LARGEST
_CHUNK = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Temperatures:
    """One temperature per criterion, frozen on one split; None where none is finite and above 0, for `reasons`."""

    values: dict[str, float | None]
    reasons: dict[str, str]
    split: str
    rule: str = RULE


@dataclass(frozen=True, kw_only=True)
class Forecasts:
    """How good probabilities are, each figure with its interval over videos."""

    brier: BrierIntervals
    ece: CalibrationError
    slope: Interval

    @classmethod
    def of(cls, labels: ArrayLike, *, logits: ArrayLike, units: VideoUnits) -> Forecasts:
        """Of sigmoid(logit)."""
        fit = calibration(labels, logits=logits)
        return cls(
            brier=brier_intervals(labels, logits=logits, units=units),
            ece=calibration_error(labels, logits=logits, units=units),
            slope=slope_intervals(labels, logits=logits, units=units, fit=fit)["slope"],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "brier": interval_fields(self.brier.value),
            "ece_debiased": interval_fields(self.ece.debiased),
            "ece": self.ece.plain,
            "ece_perfect": self.ece.perfect,
            "slope": interval_fields(self.slope),
        }


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """One criterion before and after; `after` and `brier_change` (after minus before) are None without a temperature.

    `temperature` has an interval where the table is the one it was fitted on.
    """

    temperature: Interval
    before: Forecasts
    after: Forecasts | None
    brier_change: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; null beside its reason."""
        return {
            "temperature": interval_fields(self.temperature),
            "before": self.before.to_dict(),
            "after": None if self.after is None else self.after.to_dict(),
            "brier_change": interval_fields(self.brier_change),
        }


def fit_temperatures(predictions: Predictions) -> Temperatures:
    """Freeze the temperatures on val, over all seeds' frames. Refuses the test split."""
    if predictions.split == "test":
        raise CalotError(f"{predictions.source}: temperatures are fitted on val, never on test; give val predictions")
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for k, name in enumerate(CRITERIA):
        found = temperature(predictions.labels[:, k], logits=predictions.logits[:, k])
        values[name] = found if isinstance(found, float) else None
        reasons |= {} if isinstance(found, float) else {name: found}
    return Temperatures(values=values, reasons=reasons, split=predictions.split)


def temperature(labels: ArrayLike, *, logits: ArrayLike) -> float | str:
    """The T above 0 of the lowest negative log-likelihood of sigmoid(logit / T), or why there is none."""
    truth, score = np.asarray(labels, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    if truth.min() == truth.max():
        return "no positive label" if truth.max() == 0 else "no negative label"
    found = float(_temperatures(truth, score=score, kept=np.ones((1, len(truth)), dtype=bool))[0])
    if np.isnan(found):
        right = (2 * truth - 1) * score
        if (right >= 0).all():
            return "every logit lies on its label's side of 0: the lower the temperature, the higher the likelihood"
        return "the logits speak against the labels: no temperature above 0 is best"
    return found


def left_out_temperatures(labels: ArrayLike, *, logits: ArrayLike, units: VideoUnits) -> Array:
    """The temperature fitted without each video, (videos,); NaN where the others define none."""
    truth, score = np.asarray(labels, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    step = max(1, _CHUNK // len(score))
    parts = []
    for first in range(0, units.count, step):
        out = np.arange(first, min(first + step, units.count))
        parts.append(_temperatures(truth, score=score, kept=units.index[None, :] != out[:, None]))
    return np.concatenate(parts)


def _temperatures(truth: Array, *, score: Array, kept: NDArray[np.bool_]) -> Array:
    """Newton's method on the slope a = 1 / T, in which the loss is convex, over the frames that each row keeps.

    Steps are halved until the gradient has its root between the bounds; NaN where a best a is not above 0 or finite.
    """
    scale = float(np.sqrt(np.mean(score**2))) or 1.0
    z = score / scale
    low, high = np.full(len(kept), 1.0 / _LARGEST), np.full(len(kept), _LARGEST)
    start, end = (_gradient(truth, z=z, kept=kept, slope=a) for a in (low, high))
    defined = (start < 0) & (end > 0)
    slope = np.ones(len(kept))
    for _ in range(_STEPS):
        p = expit(slope[:, None] * z)
        gradient = ((p - truth) * kept) @ z
        low, high = np.where(gradient < 0, slope, low), np.where(gradient < 0, high, slope)
        curve = (p * (1 - p) * kept) @ (z * z)
        with np.errstate(divide="ignore", invalid="ignore"):
            new = slope - gradient / curve
        inside = (new > low) & (new < high)
        new = np.where(inside, new, np.sqrt(low * high))
        moved = np.abs(new - slope) / slope
        slope = new
        if (moved[defined] < 1e-12).all():
            break
    return np.where(defined, scale / slope, np.nan)


def _gradient(truth: Array, *, z: Array, kept: NDArray[np.bool_], slope: Array) -> Array:
    return np.asarray(((expit(slope[:, None] * z) - truth) * kept) @ z, dtype=np.float64)


def scaling(
    labels: ArrayLike, *, logits: ArrayLike, units: VideoUnits, frozen: float | None, reason: str | None, own: bool
) -> Scaling:
    """One criterion before and after. With `own` the temperature was fitted on these same frames, and each video is
    scaled with that of the others; else all are with `frozen`. `reason` says why that is None."""
    score = np.asarray(logits, dtype=np.float64)
    before = Forecasts.of(labels, logits=score, units=units)
    none = Interval(value=None, low=None, high=None, reason=reason)
    if frozen is None:
        return Scaling(temperature=none, before=before, after=None, brier_change=none)
    each = left_out_temperatures(labels, logits=score, units=units) if own else np.full(units.count, frozen)
    if np.isnan(each).any():
        why = "without one of the videos no temperature is best"
        shown, change = (Interval(value=v, low=None, high=None, reason=why) for v in (frozen, None))
        return Scaling(temperature=shown, before=before, after=None, brier_change=change)
    scaled = score / each[units.index]
    return Scaling(
        temperature=_with_interval(frozen, left_out=each) if own else _fixed(frozen),
        before=before,
        after=Forecasts.of(labels, logits=scaled, units=units),
        brier_change=_brier_change(labels, before=score, after=scaled, units=units),
    )


def _fixed(value: float) -> Interval:
    """A value that was frozen elsewhere: it has no interval here."""
    return Interval(value=value, low=None, high=None, reason="frozen on val")


def _with_interval(value: float, *, left_out: Array) -> Interval:
    """On the logarithmic scale, on which twice and half are equally far."""
    found = plain_interval(float(np.log(value)), left_out=np.log(left_out))
    low, high = (None if end is None else float(np.exp(end)) for end in (found.low, found.high))
    return Interval(value=value, low=low, high=high, reason=found.reason)


def _brier_change(labels: ArrayLike, *, before: Array, after: Array, units: VideoUnits) -> Interval:
    truth = np.asarray(labels, dtype=np.float64)
    error = (sigmoid(after) - truth) ** 2 - (sigmoid(before) - truth) ** 2
    sums, frames = units.sums(error), units.sums(np.ones_like(error))
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = without_each(sums) / without_each(frames)
    return plain_interval(float(error.mean()), left_out=left_out)


def scaling_fields(found: Mapping[str, Scaling], *, frozen: Temperatures | None, own: bool) -> dict[str, Any]:
    """What `--json` holds: the rule, how it was applied, and each criterion before and after."""
    applied = None if frozen is None else ON_ITSELF if own else FROZEN
    return {
        "rule": RULE,
        "fitted": None if frozen is None else asdict(frozen),
        "applied": applied,
        "reason": NOT_FROZEN if frozen is None else None,
        "criteria": {name: item.to_dict() for name, item in found.items()},
    }
