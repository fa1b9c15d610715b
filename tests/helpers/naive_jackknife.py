"""The jackknife written out by its formulas, to hold the fast one against."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import t as student


def without_each_video(videos: np.ndarray, figure: Callable[[np.ndarray], float]) -> list[float]:
    """`figure` of the rows that are left when each video is dropped from the table in turn."""
    return [figure(np.flatnonzero(videos != name)) for name in sorted(set(videos.tolist()))]


def naive_plain(value: float, left_out: Sequence[float]) -> tuple[float, float]:
    """Value +- t * se with Satterthwaite's degrees of freedom, one number at a time."""
    n = len(left_out)
    mean = sum(left_out) / n
    squares = [(v - mean) ** 2 for v in left_out]
    error = ((n - 1) / n * sum(squares)) ** 0.5
    average = sum(squares) / n
    variance = n * sum((s - average) ** 2 for s in squares) / (n - 1)
    degrees = n - 1.0 if variance <= 0 else min(max(2 * sum(squares) ** 2 / variance, 2.0), n - 1.0)
    half = float(student.ppf(0.975, degrees)) * error
    return value - half, value + half


def naive_logit(value: float, left_out: Sequence[float]) -> tuple[float, float]:
    """The same on the logit scale."""
    low, high = naive_plain(_logit(value), [_logit(v) for v in left_out])
    return float(1 / (1 + np.exp(-low))), float(1 / (1 + np.exp(-high)))


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))
