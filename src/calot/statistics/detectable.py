"""The minimum detectable difference, from the user's own predictions with a difference planted in them.

The standard error at a difference is not that at no difference: where videos differ much it is two to three times
larger once one side is really better. A formula that takes the observed standard error promised 80 % power and had 20
to 80. Here positive frames of one side are moved up and of the other down until the planted difference equals
(t_0.975 + t_0.8) times the standard error *at that difference*.

For two checkpoints the result is then multiplied by a factor that simulation gave for the number of positive videos:
with few of them the jackknife's standard error varies so much from set to set that fewer differences are called than
promised, and with many its cautious degrees of freedom call more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from calot.statistics.paired_error import ScoredSide, paired_error

Array = NDArray[np.float64]
POWER = 0.80
ALPHA = 0.05
STEPS = np.array([0.3, 0.7, 1.5, 3.0, 6.0])
#: Factor 0.88 + 1.8 / positive videos: fitted on 40 pairs and 200 sets in each of eight worlds and three sizes.
MANY, FEW = 0.88, 1.8
GAINS = np.r_[-STEPS[::-1], 0.0, STEPS]


def detectable_differences(a: ScoredSide, b: ScoredSide, *, seeds_vary: bool) -> list[float | None]:
    """Per criterion and for mAP (last), the mean of both directions; None where no planted difference reaches 80 %.

    With seeds that vary nothing is multiplied: the factor was found for two checkpoints.
    """
    unit = _unit((*a.scores, *b.scores))
    differences, needed = [], []
    for gain in GAINS:
        up, down = a.shifted(gain / 2 * unit).left_out(), b.shifted(-gain / 2 * unit).left_out()
        columns = range(up.shape[2])
        differences.append([float(up[0, :, k].mean() - down[0, :, k].mean()) for k in columns])
        needed.append([_needed(up[:, :, k], down[:, :, k], seeds_vary=seeds_vary) for k in columns])
    planted, asked = np.array(differences), np.array(needed)
    found = [smallest_reached(planted[:, k], needed=asked[:, k]) for k in range(planted.shape[1])]
    if seeds_vary:
        return found
    largest = np.abs(planted).max(axis=0)
    return [
        calibrated(value, positive_videos=held, largest=float(largest[k]))
        for k, (value, held) in enumerate(zip(found, _positive_videos(a), strict=True))
    ]


def calibrated(value: float | None, *, positive_videos: int, largest: float) -> float | None:
    """A difference times the factor for so many positive videos; None above the `largest` that could be planted."""
    if value is None or positive_videos == 0:
        return None
    scaled = value * (MANY + FEW / positive_videos)
    return scaled if scaled <= largest else None


def smallest_reached(planted: Array, *, needed: Array) -> float | None:
    """Where a rising planted difference first equals what its own standard error asks for, in either direction."""
    if np.isnan(planted).any() or np.isnan(needed).any():
        return None
    found = []
    for difference, asked in ((planted, needed), (-planted[::-1], needed[::-1])):
        at = np.linspace(0.0, max(float(difference[-1]), 0.0), 1001)
        reached = at >= np.interp(at, difference, asked)
        if reached[1:].any():
            found.append(float(at[1:][reached[1:]][0]))
    return float(np.mean(found)) if found else None


def _needed(a: Array, b: Array, *, seeds_vary: bool) -> float:
    error = paired_error(a, b, seeds_vary=seeds_vary)
    return float(student.ppf(1 - ALPHA / 2, error.degrees) + student.ppf(POWER, error.degrees)) * error.total


def _positive_videos(side: ScoredSide) -> list[int]:
    """Videos with a positive frame, per criterion and (last) of the criterion that has fewest."""
    counts = [len(np.unique(side.units[side.labels[:, k]])) for k in range(side.labels.shape[1])]
    return [*counts, min(counts)]


def _unit(scores: tuple[Array, ...]) -> Array:
    """A robust standard deviation of the scores per criterion (quartiles), so that one huge logit sets no scale."""
    low, high = np.quantile(np.concatenate(scores), [0.25, 0.75], axis=0)
    unit = (high - low) / 1.349
    return np.where(unit > 0, unit, 1.0)
