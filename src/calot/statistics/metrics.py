"""Point estimates from labels and raw scores, in float64; whatever the data cannot define is None with a reason, never
0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score

from calot.criteria import CRITERIA
from calot.errors import CalotError

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MeanAP:
    """Macro mean of average precision; `value` needs every criterion, `over_defined` is the mean over the criteria in
    `defined`.
    """

    value: float | None
    ap: dict[str, float | None]
    defined: tuple[str, ...]
    over_defined: float | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Brier:
    """Mean squared error of the probability; `skill` = 1 - value / reference, the reference forecasting the mean target
    throughout.
    """

    value: float
    reference: float
    skill: float | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """Counts and rates of thresholded scores; a rate whose denominator is empty is None."""

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    sensitivity: float | None
    specificity: float | None
    ppv: float | None
    npv: float | None
    f1: float | None
    balanced_accuracy: float | None


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """scikit-learn's AP = sum_k (R_k - R_(k-1)) P_k over distinct thresholds, in float64; None without a positive
    label.

    Raises CalotError for a NaN or infinite score or a label other than 0 and 1.
    """
    truth, score = _checked(labels, scores)
    if not truth.any():
        return None
    return float(average_precision_score(truth, score))


def mean_ap(labels: ArrayLike, scores: ArrayLike, *, criteria: Sequence[str] = CRITERIA) -> MeanAP:
    """Mean of AP over the columns of (n, k) arrays.

    A mean over two criteria is another quantity than a mean over three, so `value` is None as soon as one is undefined;
    the mean over those that are defined stands apart in `over_defined`, with their names.
    """
    truth, score = np.asarray(labels), np.asarray(scores)
    ap = {name: average_precision(truth[:, k], score[:, k]) for k, name in enumerate(criteria)}
    values = {name: value for name, value in ap.items() if value is not None}
    over = float(np.mean(list(values.values()))) if values else None
    missing = [name for name in criteria if name not in values]
    reason = f"no positive label for {', '.join(missing)}" if missing else None
    return MeanAP(value=None if missing else over, ap=ap, defined=tuple(values), over_defined=over, reason=reason)


def sigmoid(logits: ArrayLike) -> Array:
    """1 / (1 + exp(-x)) in float64 without overflow for any finite x."""
    x = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, small) / (1.0 + small), dtype=np.float64)


def prevalence(labels: ArrayLike) -> float:
    """Share of positive frames: the AP that chance reaches."""
    return float(np.mean(np.asarray(labels, dtype=np.float64)))


def brier(targets: ArrayLike, *, logits: ArrayLike) -> Brier:
    """Brier (1950) score of sigmoid(logit) against 0/1 labels or rater means, with its skill against the mean target as
    forecast.
    """
    target = np.asarray(targets, dtype=np.float64)
    value = float(np.mean((sigmoid(logits) - target) ** 2))
    reference = float(np.var(target))
    if reference == 0.0:
        return Brier(
            value=value,
            reference=reference,
            skill=None,
            reason="every target is equal: the reference forecast is perfect",
        )
    return Brier(value=value, reference=reference, skill=1.0 - value / reference, reason=None)


def decisions(labels: ArrayLike, *, scores: ArrayLike, threshold: float) -> Decisions:
    """Call a frame positive when score >= threshold, and count."""
    truth, score = _checked(labels, scores)
    called = score >= threshold
    tp, fp = int((called & truth).sum()), int((called & ~truth).sum())
    fn, tn = int((~called & truth).sum()), int((~called & ~truth).sum())
    sensitivity, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    both = sensitivity is not None and specificity is not None
    return Decisions(
        threshold=float(threshold),
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        true_negatives=tn,
        sensitivity=sensitivity,
        specificity=specificity,
        ppv=ratio(tp, tp + fp),
        npv=ratio(tn, tn + fn),
        f1=ratio(2 * tp, 2 * tp + fp + fn),
        balanced_accuracy=(sensitivity + specificity) / 2 if both else None,  # type: ignore[operator]
    )


def ratio(part: float, whole: float) -> float | None:
    """part / whole, None where the whole is empty."""
    return float(part) / float(whole) if whole else None


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], Array]:
    raw: NDArray[Any] = np.asarray(labels)
    score = np.asarray(scores, dtype=np.float64)
    if raw.shape != score.shape or raw.ndim != 1 or raw.size == 0:
        raise CalotError(
            f"labels {raw.shape} and scores {score.shape} must be equally long, one-dimensional and not empty"
        )
    bad = ~((raw == 0) | (raw == 1))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise CalotError(
            f"label {raw[row]} in row {row} (from 0); expected 0 or 1: a missing label is never read as negative"
        )
    if not np.isfinite(score).all():
        row = int(np.flatnonzero(~np.isfinite(score))[0])
        raise CalotError(
            f"score {score[row]} in row {row} (from 0) is not finite: one such score would spoil the ranking"
        )
    return raw.astype(bool), score
