"""Intersection over union from one confusion matrix per clip, summed, with intervals over videos."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calot.statistics.intervals import Interval
from calot.statistics.jackknife import proportion_interval, without_each

NO_PIXEL = "no true mask shows it"


def iou_of(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of each class from counts by true (rows) and predicted class; NaN where no true pixel is
    of it. Leading axes are kept."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    true, found = counts.sum(axis=-1), counts.sum(axis=-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(true > 0, hit / (true + found - hit), np.nan))


def iou_intervals(counts: NDArray[np.int64], *, videos: ArrayLike) -> list[Interval]:
    """Each class's IoU over all clips, `counts` being `(clips, s, s)`, and last their mean over the classes that are
    there; 95 % intervals by leaving out one video after the other."""
    units = np.unique(np.asarray(videos), return_inverse=True)[1]
    by_video = np.zeros((int(units.max()) + 1, *counts.shape[1:]), dtype=np.float64)
    np.add.at(by_video, units, counts)
    whole, left_out = iou_of(by_video.sum(axis=0)), iou_of(without_each(by_video))
    there = ~np.isnan(whole)
    found = [_interval(whole[k], left_out[:, k]) for k in range(len(whole))]
    if not there.any():
        return [*found, Interval(value=None, low=None, high=None, reason=NO_PIXEL)]
    return [*found, _interval(whole[there].mean(), left_out[:, there].mean(axis=1))]


def _interval(value: float, left_out: NDArray[np.float64]) -> Interval:
    if np.isnan(value):
        return Interval(value=None, low=None, high=None, reason=NO_PIXEL)
    return proportion_interval(float(value), left_out=left_out)
