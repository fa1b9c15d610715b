"""Are the probabilities right, and the decisions worth making: ECE, slope and intercept, thresholds, net benefit."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.metrics import sigmoid
from calot.statistics.predictions import Predictions
from calot.writing import write_json

Array = NDArray[np.float64]
BINS = 15
RULE = (
    "maximises F1 per criterion on the split named; of equal maxima the highest threshold; "
    "positive when logit >= threshold"
)
SENSITIVITY_RULE = (
    "is the highest per criterion whose sensitivity on the split named is at least {:g}; positive when logit >= "
    "threshold"
)


@dataclass(frozen=True, kw_only=True)
class ReliabilityPoint:
    """One bin: mean forecast, observed share, frames."""

    forecast: float
    observed: float
    frames: int


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Slope 1 and intercept 0 are perfect; `in_the_large` is the intercept with the slope held at 1."""

    ece: float
    slope: float | None
    intercept: float | None
    in_the_large: float | None
    reason: str | None
    reliability: tuple[ReliabilityPoint, ...]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Logit thresholds frozen on one split; None for a criterion without positives there."""

    values: dict[str, float | None]
    split: str
    protocol: str
    manifest_hash: str
    fingerprint: str
    rule: str = RULE

    def write(self, path: Path) -> Path:
        """Store as JSON, at once or not at all."""
        return write_json(Path(path), asdict(self))

    @classmethod
    def load(cls, path: Path) -> Thresholds:
        """Read what `write` stored; raises CalotError for anything else."""
        try:
            fields = json.loads(Path(path).read_text(encoding="utf-8"))
            values = {
                name: None if fields["values"][name] is None else float(fields["values"][name]) for name in CRITERIA
            }
            made = cls(**{**fields, "values": values})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CalotError(
                f"{path}: not a thresholds file ({error}); write it again from the val predictions"
            ) from error
        if made.split == "test":
            raise CalotError(f"{path}: split is 'test'; thresholds are chosen on val: write them from val predictions")
        return made


@dataclass(frozen=True, kw_only=True)
class NetBenefit:
    """Decision curve (Vickers and Elkin 2006): TP / n - FP / n * p / (1 - p) at threshold probability p; treating none
    is 0.
    """

    probability: float
    model: float
    treat_all: float


def calibration(labels: ArrayLike, *, logits: ArrayLike, bins: int = BINS) -> Calibration:
    """ECE over equal-mass bins, reliability points, and the unpenalised logistic regression of label on logit (Cox
    1958).
    """
    truth, score = np.asarray(labels, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    points = reliability_points(truth, logits=score, bins=bins)
    ece = sum(point.frames * abs(point.forecast - point.observed) for point in points) / len(truth)
    reason = _why_undefined(truth, score)
    fit = None if reason else _logistic(truth, score)
    large = None if truth.min() == truth.max() else _in_the_large(truth, score)
    if reason is None and fit is None:
        reason = "the logistic regression of label on logit did not converge"
    slope, intercept = fit if fit is not None else (None, None)
    return Calibration(
        ece=float(ece), slope=slope, intercept=intercept, in_the_large=large, reason=reason, reliability=tuple(points)
    )


def reliability_points(labels: ArrayLike, *, logits: ArrayLike, bins: int = BINS) -> list[ReliabilityPoint]:
    """Bins of equal mass by forecast; equal forecasts share a bin, so there may be fewer than `bins`."""
    truth, forecast = np.asarray(labels, dtype=np.float64), sigmoid(logits)
    place = bin_places(forecast, bins=bins)
    count = np.bincount(place)
    total = [np.bincount(place, weights=values, minlength=len(count)) for values in (forecast, truth)]
    return [
        ReliabilityPoint(forecast=float(total[0][b] / n), observed=float(total[1][b] / n), frames=int(n))
        for b, n in enumerate(count)
        if n
    ]


def bin_places(forecast: Array, *, bins: int = BINS) -> NDArray[np.intp]:
    """The bin of equal mass that each forecast falls into; equal forecasts share one."""
    edges = np.unique(np.quantile(forecast, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    return np.searchsorted(edges, forecast, side="left")


def _why_undefined(truth: Array, score: Array) -> str | None:
    if truth.min() == truth.max():
        return "no positive label" if truth.max() == 0 else "no negative label"
    if score.min() == score.max():
        return "every logit is equal"
    positive, negative = score[truth == 1], score[truth == 0]
    if positive.min() >= negative.max() or positive.max() <= negative.min():
        return "the logits separate the labels: the slope has no finite value"
    return None


def _logistic(truth: Array, score: Array) -> tuple[float, float] | None:
    """Newton's method on standardised scores with halved steps; (slope, intercept), None without convergence."""
    shift, scale = float(score.mean()), float(score.std())
    design = np.stack([np.ones_like(score), (score - shift) / scale], axis=1)
    beta = np.array([np.log(truth.mean() / (1 - truth.mean())), 0.0])
    loss = _nll(truth, design @ beta)
    for _ in range(100):
        p = sigmoid(design @ beta)
        gradient = design.T @ (p - truth)
        hessian = design.T @ (design * (p * (1 - p))[:, None])
        if np.linalg.cond(hessian) > 1e14:
            return None
        step = np.linalg.solve(hessian, gradient)
        while _nll(truth, design @ (beta - step)) > loss and np.abs(step).max() > 1e-14:
            step = step / 2
        beta = beta - step
        loss = _nll(truth, design @ beta)
        if np.abs(step).max() < 1e-10:
            slope = float(beta[1] / scale)
            return slope, float(beta[0] - slope * shift)
    return None


def _in_the_large(truth: Array, score: Array) -> float | None:
    """The a for which mean sigmoid(score + a) = prevalence, by bisection."""
    low, high = -float(score.max()) - 50.0, -float(score.min()) + 50.0
    for _ in range(400):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if sigmoid(score + middle).mean() > truth.mean():
            high = middle
        else:
            low = middle
    return (low + high) / 2


def _nll(truth: Array, eta: Array) -> float:
    return float(np.sum(np.logaddexp(0.0, eta) - truth * eta))


def choose_thresholds(predictions: Predictions, *, sensitivity: float | None = None) -> Thresholds:
    """Freeze one logit threshold per criterion: by `RULE`, or the highest whose sensitivity reaches a target in (0, 1].

    Refuses the test split: thresholds are chosen on val, or not reported.
    """
    if predictions.split == "test":
        raise CalotError(f"{predictions.source}: thresholds are chosen on val, never on test; give val predictions")
    columns = {name: (predictions.labels[:, k], predictions.logits[:, k]) for k, name in enumerate(CRITERIA)}
    if sensitivity is None:
        values = {name: best_f1(labels, scores=scores) for name, (labels, scores) in columns.items()}
    else:
        values = {n: at_sensitivity(labels, scores=s, target=sensitivity) for n, (labels, s) in columns.items()}
    return Thresholds(
        rule=RULE if sensitivity is None else SENSITIVITY_RULE.format(sensitivity),
        values=values,
        split=predictions.split,
        protocol=predictions.protocol,
        manifest_hash=predictions.manifest_hash,
        fingerprint=predictions.fingerprint,
    )


def best_f1(labels: ArrayLike, *, scores: ArrayLike) -> float | None:
    """The score at which calling `score >= threshold` positive gives the highest F1; None without a positive label."""
    truth, score = np.asarray(labels).astype(bool), np.asarray(scores, dtype=np.float64)
    if not truth.any():
        return None
    order = np.argsort(-score, kind="stable")
    score, found = score[order], np.cumsum(truth[order])
    last = np.r_[np.flatnonzero(score[1:] != score[:-1]), len(score) - 1]
    f1 = 2 * found[last] / (last + 1 + found[-1])
    return float(score[last[int(np.argmax(f1))]])


def at_sensitivity(labels: ArrayLike, *, scores: ArrayLike, target: float) -> float | None:
    """The highest score at which `score >= threshold` calls at least a share `target` of the positives; None without a
    positive label. Raises CalotError for a target outside (0, 1].
    """
    if not 0.0 < target <= 1.0:
        raise CalotError(f"sensitivity={target}: the share of positives to call lies above 0 and is at most 1")
    truth, score = np.asarray(labels).astype(bool), np.asarray(scores, dtype=np.float64)
    positives = np.sort(score[truth])[::-1]
    if not len(positives):
        return None
    needed = max(1, math.ceil(target * len(positives) - 1e-9))  # 0.9 * 10 is 9, whatever its last binary digit
    return float(positives[needed - 1])


def decision_curve(
    labels: ArrayLike, *, logits: ArrayLike, probabilities: Sequence[float] | None = None
) -> list[NetBenefit]:
    """Net benefit on a grid of threshold probabilities (0.01 ... 0.99)."""
    truth, forecast = np.asarray(labels).astype(bool), sigmoid(logits)
    grid = np.arange(1, 100) / 100 if probabilities is None else np.asarray(probabilities, dtype=np.float64)
    if ((grid <= 0) | (grid >= 1)).any():
        raise CalotError(
            f"decision curve: threshold probabilities must lie strictly between 0 and 1, got {grid.tolist()}"
        )
    n, share = len(truth), float(truth.mean())
    curve = []
    for p in grid:
        called = forecast >= p
        odds = p / (1 - p)
        model = (called & truth).sum() / n - (called & ~truth).sum() / n * odds
        curve.append(NetBenefit(probability=float(p), model=float(model), treat_all=float(share - (1 - share) * odds)))
    return curve
