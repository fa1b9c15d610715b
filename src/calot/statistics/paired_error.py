"""The standard error of a paired difference when videos, and perhaps seeds, are a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from calot.statistics.intervals import LEVEL, satterthwaite
from calot.statistics.resampling import Resampler, WeightedAP, jackknife_weights

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PairedError:
    """Standard error with its degrees of freedom, and its two sources apart."""

    total: float
    degrees: float
    video: float
    seed: float | None

    @property
    def half(self) -> float:
        """Half of the 95 % interval's width."""
        return float(student.ppf((1 + LEVEL) / 2, self.degrees)) * self.total


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredSide:
    """One side of a comparison: labels (n, k), scores (n, k) of each seed, and each frame's video 0 ... `count` - 1."""

    labels: NDArray[np.bool_]
    scores: tuple[Array, ...]
    units: NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, engine: Resampler) -> ScoredSide:
        """The same frames as the resampler's tables."""
        first = engine.tables[0]
        return cls(
            labels=first.labels == 1,
            scores=tuple(table.logits.astype(np.float64) for table in engine.tables),
            units=np.searchsorted(np.array(engine.videos), first.videos),
            count=len(engine.videos),
        )

    def shifted(self, gain: Array) -> ScoredSide:
        """Positive frames score higher by `gain`, one number per criterion."""
        return replace(self, scores=tuple(scores + gain * self.labels for scores in self.scores))

    def left_out(self) -> Array:
        """AP of all videos, then with each left out: (videos + 1, seeds, criteria and their mean)."""
        weights = np.concatenate([np.ones((1, self.count), dtype=np.int32), jackknife_weights(self.count)])
        ap = np.stack([np.stack(self._seed(scores, weights=weights), axis=-1) for scores in self.scores], axis=1)
        return np.concatenate([ap, ap.mean(axis=2, keepdims=True)], axis=2)

    def _seed(self, scores: Array, *, weights: NDArray[np.int32]) -> list[Array]:
        columns = range(self.labels.shape[1])
        return [
            WeightedAP.of(self.labels[:, k], scores=scores[:, k], units=self.units, count=self.count)(weights)
            for k in columns
        ]


def paired_error(a: Array, b: Array, *, seeds_vary: bool) -> PairedError:
    """V = V_video + V_seed - V_interaction (Cameron, Gelbach and Miller 2011), at least the larger of the first two.

    `a` and `b` are (videos + 1, seeds): the value of all videos, then with each left out. V_video is the jackknife's,
    V_seed is s^2 / S per side; a part that varies with seed and video at once is in both, and the jackknife seed by
    seed shows how large it is. Degrees of freedom: Satterthwaite's from the jackknife for videos, S - 1 per side for
    seeds, put together by Welch.
    """
    moved = [side[1:] - side[1:].mean(axis=0) for side in (a, b)]
    squares = (moved[0].mean(axis=1) - moved[1].mean(axis=1)) ** 2
    share = (len(squares) - 1) / len(squares)
    video, degrees = share * float(squares.sum()), satterthwaite(squares)
    if not seeds_vary:
        return PairedError(total=float(np.sqrt(video)), degrees=degrees, video=float(np.sqrt(video)), seed=None)
    each = [float(side[0].var(ddof=1)) / side.shape[1] for side in (a, b)]
    seeds = sum(each)
    interaction = sum(share * float(part.var(axis=1, ddof=1).sum()) / part.shape[1] for part in moved)
    total = max(video, seeds, video + seeds - interaction)
    joined = welch_degrees([video, *each], [degrees, *(side.shape[1] - 1.0 for side in (a, b))])
    return PairedError(
        total=float(np.sqrt(total)), degrees=joined, video=float(np.sqrt(video)), seed=float(np.sqrt(seeds))
    )


def welch_degrees(variances: Sequence[float], degrees: Sequence[float]) -> float:
    """Welch and Satterthwaite: (sum v)^2 / sum(v^2 / df)."""
    below = sum(v**2 / df for v, df in zip(variances, degrees, strict=True))
    return sum(variances) ** 2 / below if below > 0 else degrees[0]
