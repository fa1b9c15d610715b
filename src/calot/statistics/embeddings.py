"""Vectors of clips: a map in two dimensions, and how much of them is which video a clip is from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.errors import CalotError
from calot.statistics.clip_means import ClipMean, mean_over_clips
from calot.statistics.intervals import Interval
from calot.statistics.jackknife import interval_fields, plain_interval

Array = NDArray[np.float64]

#: Contiguous blocks that each video's clips are cut into, by time; one after the other is left out.
BLOCKS = 4
#: Principal components that the probe of identity reads at most.
_MOST = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class PlaneMap:
    """Places `(n, 2)` along the two directions that vary most, and the share of all variance that each has."""

    places: Array
    shares: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class VideoIdentity:
    """How well the video can be told from a clip's vector, other times of the same videos being known.

    `accuracy` is the share of clips given to their own video, `chance` that of always saying the longest one;
    `variance` the share of the vectors' variance that lies between videos, less what would lie there by chance.
    """

    accuracy: ClipMean
    chance: float
    variance: Interval
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "accuracy": self.accuracy.row(),
            "chance": self.chance,
            "variance": interval_fields(self.variance),
            "clips_without_other_times": self.left_out,
        }


def plane_map(vectors: Array) -> PlaneMap:
    """Principal components of standardised vectors; each axis points to where its largest place is positive."""
    standard = _standard(vectors)
    left, sizes, _ = np.linalg.svd(standard, full_matrices=False)
    places = np.zeros((len(vectors), 2))
    count = min(2, len(sizes))
    places[:, :count] = left[:, :count] * sizes[:count]
    furthest = places[np.abs(places).argmax(axis=0), (0, 1)]
    total = float((sizes**2).sum())
    shares = [float(s**2 / total) if total > 0 else 0.0 for s in sizes[:2]] + [0.0, 0.0]
    return PlaneMap(places=places * np.where(furthest < 0, -1.0, 1.0), shares=(shares[0], shares[1]))


def video_identity(
    vectors: Array, *, videos: NDArray[np.str_], seconds: NDArray[np.float64], span: float
) -> VideoIdentity:
    """Cross-validated by blocks of time inside videos, without the clips that share frames with the block left out.

    `seconds` are the times of clips in their videos, each of which covers `span` seconds. Raises CalotError for a
    vector that is not finite.
    """
    values = np.asarray(vectors, dtype=np.float64)
    if not np.isfinite(values).all():
        raise CalotError(f"vector {int(np.nonzero(~np.isfinite(values).all(axis=1))[0][0])} (from 0) is not finite")
    names, units = np.unique(videos, return_inverse=True)
    variance = between_share(values, videos=videos)
    chance = float(np.bincount(units).max() / len(units))
    if len(names) < 2:
        alone = Interval(value=None, low=None, high=None, reason="there is one video alone")
        none = ClipMean(interval=alone, clips=len(units), videos=len(names))
        return VideoIdentity(accuracy=none, chance=chance, variance=alone, left_out=0)
    right = np.full(len(units), np.nan)
    block = _blocks(units, seconds)
    for number in range(BLOCKS):
        tested = block == number
        fitted = ~tested & ~_near(units, seconds, tested=tested, span=span)
        known = np.isin(units, np.unique(units[fitted]))
        if len(np.unique(units[fitted])) < 2 or not (tested & known).any():
            continue
        said = _named(values[fitted], units[fitted], values[tested & known])
        right[tested & known] = said == units[tested & known]
    accuracy = mean_over_clips(right, videos=videos.tolist(), share=True)
    missing = int(np.isnan(right).sum())
    return VideoIdentity(accuracy=accuracy, chance=chance, variance=variance, left_out=missing)


def between_share(vectors: Array, *, videos: NDArray[np.str_]) -> Interval:
    """Share of the variance between videos: 1 - (within / (n - v)) / (all / (n - 1)), about 0 where videos say nothing;
    of standardised vectors, with an interval over videos."""
    names, units = np.unique(videos, return_inverse=True)
    if len(names) < 2 or len(units) <= len(names):
        why = f"{len(units)} clips of {len(names)} videos leave nothing to compare"
        return Interval(value=None, low=None, high=None, reason=why)
    standard = _standard(vectors)

    def share(kept: NDArray[np.bool_]) -> float:
        some, own = standard[kept], units[kept]
        counts = np.bincount(own, minlength=len(names)).astype(np.float64)
        sums = np.zeros((len(names), some.shape[1]))
        np.add.at(sums, own, some)
        squares = float((some**2).sum())
        present = counts > 0
        within = squares - float((sums[present] ** 2 / counts[present, None]).sum())
        total = squares - float((sums.sum(axis=0) ** 2).sum()) / len(own)
        if total <= 0 or len(own) <= present.sum():
            return float("nan")
        return float(1 - (within / (len(own) - present.sum())) / (total / (len(own) - 1)))

    every = np.ones(len(units), dtype=np.bool_)
    return plain_interval(share(every), left_out=[share(units != v) for v in range(len(names))])


def _standard(vectors: Array) -> Array:
    values = np.asarray(vectors, dtype=np.float64)
    spread = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def _blocks(units: NDArray[np.intp], seconds: Array) -> NDArray[np.int64]:
    """Of each clip, which of its video's contiguous blocks it is in."""
    block = np.zeros(len(units), dtype=np.int64)
    for unit in np.unique(units):
        mine = np.flatnonzero(units == unit)
        in_time = mine[np.argsort(seconds[mine], kind="stable")]
        block[in_time] = np.arange(len(mine)) * BLOCKS // len(mine)
    return block


def _near(units: NDArray[np.intp], seconds: Array, *, tested: NDArray[np.bool_], span: float) -> NDArray[np.bool_]:
    """Clips of a video that share time with one of its clips that are tested."""
    near = np.zeros(len(units), dtype=np.bool_)
    for unit in np.unique(units[tested]):
        times = seconds[tested & (units == unit)]
        near |= (units == unit) & (seconds > times.min() - span) & (seconds < times.max() + span)
    return near


def _named(fitted: Array, units: NDArray[np.intp], tested: Array) -> NDArray[np.intp]:
    """The video that each vector is given to."""
    from sklearn.linear_model import LogisticRegression

    mean, spread = fitted.mean(axis=0), fitted.std(axis=0)
    spread = np.where(spread > 0, spread, np.inf)
    standard, other = ((each - mean) / spread for each in (fitted, tested))
    _, _, axes = np.linalg.svd(standard, full_matrices=False)
    axes = axes[:_MOST].T
    model = LogisticRegression(C=1.0, max_iter=500).fit(standard @ axes, units)
    return np.asarray(model.predict(other @ axes), dtype=np.intp)
