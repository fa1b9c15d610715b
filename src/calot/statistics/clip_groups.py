"""Clips by how many criteria hold, and rank correlations over clips with intervals over their videos."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from calot.criteria import CRITERIA
from calot.statistics.intervals import Interval
from calot.statistics.jackknife import plain_interval

Array = NDArray[np.float64]

#: Clips by how many criteria hold.
CATEGORIES: Mapping[str, int] = {"all three": 3, "exactly one": 1, "two": 2, "none": 0}


def of_category(labels: NDArray[np.int8], *, name: str) -> NDArray[np.bool_]:
    """Which clips, of labels 0 and 1 `(n, k)`, are of one of `CATEGORIES`; unlabelled ones (-1) are of none."""
    known = (labels >= 0).all(axis=1)
    return np.asarray(known & ((labels > 0).sum(axis=1) == CATEGORIES[name]))


def only(labels: NDArray[np.int8], *, criterion: str) -> NDArray[np.bool_]:
    """Which clips show this criterion and no other."""
    return of_category(labels, name="exactly one") & (labels[:, CRITERIA.index(criterion)] > 0)


def correlation_over_clips(one: ArrayLike, other: ArrayLike, *, videos: ArrayLike) -> Interval:
    """Spearman's correlation over clips, with its interval over videos; undefined where either is constant."""
    a, b, names = np.asarray(one, np.float64), np.asarray(other, np.float64), np.asarray(videos)
    value = _spearman(a, b)
    if value is None:
        return Interval(value=None, low=None, high=None, reason="fewer than 3 clips, or all alike")
    left_out = [_spearman(a[names != v], b[names != v]) for v in np.unique(names)]
    found = plain_interval(value, left_out=[np.nan if r is None else r for r in left_out])
    if found.low is None or found.high is None:
        return found
    return Interval(value=value, low=max(-1.0, found.low), high=min(1.0, found.high))


def _spearman(a: Array, b: Array) -> float | None:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(spearmanr(a, b).statistic)
