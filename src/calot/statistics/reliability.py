"""How far each point of a reliability curve can be trusted: the observed share of a bin, by video."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from calot.statistics.calibration import BINS, bin_places
from calot.statistics.frame_sums import VideoUnits
from calot.statistics.intervals import Interval
from calot.statistics.jackknife import proportion_interval
from calot.statistics.metrics import sigmoid

ONE_VIDEO = "all positive labels of this bin, or all negative ones, lie in one video"


def reliability_intervals(
    labels: ArrayLike, *, logits: ArrayLike, units: VideoUnits, bins: int = BINS
) -> tuple[Interval, ...]:
    """The observed share of each point of `calibration.reliability_points` with its interval over videos.

    There is none where one video has all of a bin's positives, or all of its negatives: 0 to 1 would say nothing. Bins
    stay where the whole table has them; a video takes its frames out of each, so the shares follow from sums.
    """
    truth, place = np.asarray(labels, dtype=np.float64), bin_places(sigmoid(logits), bins=bins)
    shape = (int(place.max()) + 1, units.count)
    cells = place * units.count + units.index
    positives = np.bincount(cells, weights=truth, minlength=shape[0] * shape[1]).reshape(shape)
    frames = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    found = []
    for hit, size in zip(positives, frames, strict=True):
        whole = size.sum()
        if not whole:
            continue
        left = whole - size
        without = np.divide(hit.sum() - hit, left, out=np.full(units.count, np.nan), where=left > 0)
        share = float(hit.sum() / whole)
        if 0.0 < share < 1.0 and np.isin(without, (0.0, 1.0)).any():
            found.append(Interval(value=share, low=None, high=None, reason=ONE_VIDEO))
        else:
            found.append(proportion_interval(share, left_out=without))
    return tuple(found)
