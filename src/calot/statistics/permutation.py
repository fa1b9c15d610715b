"""Permutation tests of a difference between two sides, and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from calot.statistics.predictions import Predictions
from calot.statistics.resampling import WeightedAP

Array = NDArray[np.float64]
EXACT_UP_TO = 20_000
SLACK = 1e-12  # a permuted statistic equal up to rounding counts as equal


def swap_videos(a: Sequence[Predictions], b: Sequence[Predictions], *, replicates: int = 2000, seed: int = 0) -> Array:
    """Two-sided p of mean AP(A) - mean AP(B) per criterion and for mAP (last): models swapped in a random half of
    videos.

    Scores enter as ranks within each model, which leaves every AP as it is and puts both models on one scale. Both
    models' rows stand in one table of 2 V units, so a swap is a change of weights and nothing is sorted again. Seeds
    are swapped in the pairs of `paired_seeds`, whose weighted sum is the difference of the means. p = (1 + hits) / (1 +
    replicates).
    """
    names, video = np.unique(a[0].videos, return_inverse=True)
    count = len(names)
    swapped = np.random.default_rng([seed, count]).integers(0, 2, size=(replicates, count))
    swapped = np.concatenate([np.zeros((1, count), dtype=swapped.dtype), swapped])
    sides = np.concatenate([1 - swapped, swapped], axis=1), np.concatenate([swapped, 1 - swapped], axis=1)
    units = np.concatenate([video, video + count])
    total = np.zeros((replicates + 1, len(a[0].criteria)))
    for i, j, weight in paired_seeds(len(a), len(b)):
        left, right = a[i], b[j]
        for k in range(total.shape[1]):
            scores = np.concatenate([rankdata(left.logits[:, k]), rankdata(right.logits[:, k])])
            labels = np.concatenate([left.labels[:, k], right.labels[:, k]])
            engine = WeightedAP.of(labels, scores=scores, units=units, count=2 * count)
            swap = engine(sides[0]) - engine(sides[1])
            total[:, k] += swap * weight.numerator / weight.denominator
    return _share(np.concatenate([total, total.mean(axis=1, keepdims=True)], axis=1))


def paired_seeds(a: int, b: int) -> list[tuple[int, int, Fraction]]:
    """Pairs of seeds of two sides with `a` and `b` of them, and weights that count every seed of a side alike.

    Each side's seeds share the unit interval evenly and in order; two are a pair where their shares overlap, with the
    overlap as weight. With as many seeds on both sides that is the first with the first and so on; one seed meets all
    of the other side; otherwise there are a + b - gcd(a, b) pairs, where every one with every other would be a * b.
    """
    overlaps = (
        (i, j, Fraction(min((i + 1) * b, (j + 1) * a) - max(i * b, j * a), a * b)) for i in range(a) for j in range(b)
    )
    return [(i, j, weight) for i, j, weight in overlaps if weight > 0]


def swap_seeds(a: Array, b: Array, *, seed: int = 0) -> Array:
    """Two-sided p of mean(a) - mean(b) down the first axis, seeds reassigned to the sides; exact up to 20,000 deals."""
    every = np.concatenate([a, b])
    count = len(every)
    if comb(count, len(a)) <= EXACT_UP_TO:
        deals = np.zeros((comb(count, len(a)), count))
        for row, chosen in enumerate(combinations(range(count), len(a))):
            deals[row, list(chosen)] = 1
        exact = True
    else:
        rng = np.random.default_rng([seed, count])
        deals = (rng.permuted(np.tile(np.arange(count), (EXACT_UP_TO, 1)), axis=1) < len(a)).astype(np.float64)
        deals = np.concatenate([np.r_[np.ones(len(a)), np.zeros(len(b))][None], deals])
        exact = False
    statistic = deals @ every / len(a) - (1 - deals) @ every / len(b)
    observed = every[: len(a)].mean(axis=0) - every[len(a) :].mean(axis=0)
    if exact:  # the observed deal is one of them
        return np.asarray((np.abs(statistic) >= np.abs(observed) - SLACK).mean(axis=0), dtype=np.float64)
    return _share(statistic)


def _share(statistic: Array) -> Array:
    """Share of rows at least as extreme as row 0, which counts itself."""
    extreme = np.abs(statistic) >= np.abs(statistic[0]) - SLACK
    return np.asarray(extreme.mean(axis=0), dtype=np.float64)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm (1979): p_(i) times (m - i + 1), made monotone, at most 1; None stays None and does not count."""
    known = sorted((value, place) for place, value in enumerate(p) if value is not None)
    result: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, place) in enumerate(known):
        highest = max(highest, min(1.0, value * (len(known) - rank)))
        result[place] = highest
    return result
