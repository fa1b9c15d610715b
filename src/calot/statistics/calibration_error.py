"""Expected calibration error without its bias, beside what a perfect model would show, and slope and intercept.

A plain ECE is never 0: in each bin the observed share differs from the forecast by chance, and over videos by much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf, expit

from calot.statistics.calibration import BINS, Calibration, bin_places
from calot.statistics.frame_sums import VideoUnits
from calot.statistics.intervals import MIN_VIDEOS, Interval
from calot.statistics.jackknife import plain_interval
from calot.statistics.metrics import sigmoid

Array = NDArray[np.float64]
NO_FIT = "the logistic regression of label on logit has no finite value"
_STEPS = 60
_CHUNK = 4_000_000


@dataclass(frozen=True, kw_only=True)
class CalibrationError:
    """`plain`: the usual ECE. `perfect`: its expected value for a perfectly calibrated model whose errors vary between
    videos as these do. `debiased`: with an interval, at least 0; both are None below 3 videos.
    """

    plain: float
    perfect: float | None
    debiased: Interval


@dataclass(frozen=True, kw_only=True, eq=False)
class _Gaps:
    """Weighted gap between observed share and forecast per bin, and its standard error over videos."""

    gap: Array
    error: Array

    @property
    def plain(self) -> float:
        return float(np.abs(self.gap).sum())

    @property
    def perfect(self) -> float:
        """E|N(0, error)| summed over the bins."""
        return float(np.sqrt(2 / np.pi) * self.error.sum())

    @property
    def debiased(self) -> float:
        """Plain ECE less the bias of |gap| under normal errors (Kumar, Liang and Ma 2019, its L1 form, exactly)."""
        size, error = np.abs(self.gap), np.where(self.error > 0, self.error, 1.0)
        z = size / error
        folded = np.where(
            self.error > 0, error * np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2) + size * erf(z / np.sqrt(2)), size
        )
        return float(2 * size.sum() - folded.sum())


def calibration_error(labels: ArrayLike, *, logits: ArrayLike, units: VideoUnits, bins: int = BINS) -> CalibrationError:
    """ECE over equal-mass bins: plain, a perfect model's, and debiased with an interval over videos."""
    order = np.argsort(sigmoid(logits), kind="stable")
    truth, forecast = np.asarray(labels, dtype=np.float64)[order], sigmoid(logits)[order]
    unit = units.index[order]
    whole = _gaps(truth, forecast=forecast, unit=unit, count=units.count, bins=bins)
    if units.count < MIN_VIDEOS:
        reason = f"{units.count} videos: the bias is estimated from {MIN_VIDEOS} on"
        none = Interval(value=None, low=None, high=None, reason=reason)
        return CalibrationError(plain=whole.plain, perfect=None, debiased=none)
    without = []
    for video in range(units.count):
        kept = unit != video
        gaps = _gaps(truth[kept], forecast=forecast[kept], unit=unit[kept], count=units.count, bins=bins)
        without.append(gaps.debiased)
    debiased = plain_interval(whole.debiased, left_out=without, floor=0.0)
    return CalibrationError(plain=whole.plain, perfect=whole.perfect, debiased=debiased)


def _gaps(truth: Array, *, forecast: Array, unit: NDArray[np.intp], count: int, bins: int) -> _Gaps:
    """The error of each bin's gap is the larger of that over videos (ratio estimator) and of independent frames."""
    place = bin_places(forecast, bins=bins)
    cells, shape = place * count + unit, (int(place.max()) + 1, count)
    size = shape[0] * count
    residual = np.bincount(cells, weights=truth - forecast, minlength=size).reshape(shape)
    frames = np.bincount(cells, minlength=size).reshape(shape)
    filled = frames.sum(axis=1) > 0
    residual, frames = residual[filled], frames[filled]
    total = residual.sum(axis=1)
    mean = total / frames.sum(axis=1)
    videos = int((frames.sum(axis=0) > 0).sum())
    between = ((residual - frames * mean[:, None]) ** 2).sum(axis=1) * videos / max(videos - 1, 1)
    alone = np.bincount(place, weights=forecast * (1 - forecast), minlength=shape[0])[filled]
    return _Gaps(gap=total / len(truth), error=np.sqrt(np.maximum(between, alone)) / len(truth))


def slope_intervals(
    labels: ArrayLike, *, logits: ArrayLike, units: VideoUnits, fit: Calibration
) -> dict[str, Interval]:
    """Slope, intercept and intercept in the large of `fit`, each with an interval, on their own scale."""
    truth, score = np.asarray(labels, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    none = Interval(value=None, low=None, high=None, reason=fit.reason)
    large = none
    if fit.in_the_large is not None:
        shifts = [_shift(truth, score=score, kept=units.index != v, start=fit.in_the_large) for v in range(units.count)]
        large = plain_interval(fit.in_the_large, left_out=shifts)
    if fit.slope is None or fit.intercept is None:
        return {"slope": none, "intercept": none, "in_the_large": large}
    without = _fits_without_each(truth, score=score, units=units, slope=fit.slope, intercept=fit.intercept)
    return {
        "slope": plain_interval(fit.slope, left_out=without[:, 1]),
        "intercept": plain_interval(fit.intercept, left_out=without[:, 0]),
        "in_the_large": large,
    }


def _shift(truth: Array, *, score: Array, kept: NDArray[np.bool_], start: float) -> float:
    """The a for which mean sigmoid(score + a) = prevalence over the frames kept; NaN where none is finite."""
    labels, logits, a = truth[kept], score[kept], start
    if labels.size == 0 or labels.min() == labels.max():
        return float("nan")
    for _ in range(_STEPS):
        p = expit(logits + a)
        step = float((p - labels).sum() / max((p * (1 - p)).sum(), 1e-12))
        a -= float(np.clip(step, -2.0, 2.0))
        if abs(step) < 1e-10:
            return a
    return float("nan")


def _fits_without_each(truth: Array, *, score: Array, units: VideoUnits, slope: float, intercept: float) -> Array:
    """(videos, 2): intercept and slope without each video, by Newton from the whole fit, all videos at once.

    NaN where the other videos have no finite fit.
    """
    shift, scale = float(score.mean()), float(score.std())
    z = (score - shift) / scale
    start = np.array([intercept + slope * shift, slope * scale])
    step = max(1, _CHUNK // len(score))
    parts = [
        _newton(truth, z=z, kept=units.index[None, :] != np.arange(first, min(first + step, units.count))[:, None],
                start=start)
        for first in range(0, units.count, step)
    ]  # fmt: skip
    beta = np.concatenate(parts)
    slopes = beta[:, 1] / scale
    return np.stack([beta[:, 0] - slopes * shift, slopes], axis=1)


def _newton(truth: Array, *, z: Array, kept: NDArray[np.bool_], start: Array) -> Array:
    """Logistic regressions of `truth` on `z` over the frames that each row of `kept` names; NaN without convergence."""
    beta = np.tile(start, (len(kept), 1))
    left = np.ones(len(kept), dtype=bool)
    with np.errstate(all="ignore"):
        for _ in range(_STEPS):
            b, rows = beta[left], kept[left]
            p = expit(b[:, :1] + b[:, 1:] * z)
            off, weight = (p - truth) * rows, p * (1 - p) * rows
            g0, g1 = off.sum(axis=1), off @ z
            h00, h01, h11 = weight.sum(axis=1), weight @ z, weight @ (z * z)
            det = h00 * h11 - h01**2
            step = np.stack([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0], axis=1) / det[:, None]
            step = np.where(det[:, None] > 1e-12 * (h00 * h11)[:, None], step, np.nan)
            beta[left] = b - np.clip(step, -5.0, 5.0)
            left[left] = np.abs(step).max(axis=1) > 1e-9
            left &= ~np.isnan(beta).any(axis=1)
            if not left.any():
                return beta
    beta[left] = np.nan
    return beta
