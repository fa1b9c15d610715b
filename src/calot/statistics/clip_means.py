"""A mean or a ratio over clips, with a 95 % interval over videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calot.statistics.intervals import Interval
from calot.statistics.jackknife import plain_interval, proportion_interval, without_each

Array = NDArray[np.float64]

_NONE = "no clip has it"


@dataclass(frozen=True, kw_only=True)
class ClipMean:
    """The interval, and how many clips of how many videos it is of."""

    interval: Interval
    clips: int
    videos: int

    def row(self) -> dict[str, Any]:
        """Plain values, for a table."""
        found = {k: getattr(self.interval, k) for k in ("value", "low", "high", "reason")}
        return found | {"clips": self.clips, "videos": self.videos}


def mean_over_clips(values: ArrayLike, *, videos: Sequence[str], share: bool = False) -> ClipMean:
    """The mean over the clips whose value is not NaN; a `share` has its interval on the logit scale."""
    above = np.asarray(values, dtype=np.float64)
    return _over(above, np.ones(len(above)), videos=videos, share=share, floor=None)


def ratio_over_clips(above: ArrayLike, below: ArrayLike, *, videos: Sequence[str]) -> ClipMean:
    """The ratio of two sums over the clips that have both, neither of them negative."""
    top, bottom = (np.asarray(each, dtype=np.float64) for each in (above, below))
    return _over(top, bottom, videos=videos, share=False, floor=0.0)


def _over(above: Array, below: Array, *, videos: Sequence[str], share: bool, floor: float | None) -> ClipMean:
    known = ~(np.isnan(above) | np.isnan(below))
    names, units = np.unique(np.asarray(videos)[known], return_inverse=True)
    sums = np.zeros((len(names), 2))
    np.add.at(sums, units, np.stack([above[known], below[known]], axis=1))
    clips = int(known.sum())
    total = sums.sum(axis=0)
    if not clips or not total[1]:
        none = Interval(value=None, low=None, high=None, reason=_NONE)
        return ClipMean(interval=none, clips=clips, videos=len(names))
    left = without_each(sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = left[:, 0] / left[:, 1]
    value = float(total[0] / total[1])
    interval = (
        proportion_interval(value, left_out=left_out)
        if share
        else plain_interval(value, left_out=left_out, floor=floor)
    )
    return ClipMean(interval=interval, clips=clips, videos=len(names))
