"""Intervals of a reliability curve, against bins counted video by video."""

from __future__ import annotations

import numpy as np
import pytest
from naive_jackknife import naive_logit, without_each_video
from prediction_tables import clustered
from scipy.special import expit

from calot.statistics.calibration import reliability_points
from calot.statistics.frame_sums import VideoUnits
from calot.statistics.jackknife import ONE_VIDEO_ALONE
from calot.statistics.reliability import ONE_VIDEO, reliability_intervals
from calot.statistics.summary import summarise

MADE = clustered(videos=8, frames=45)
LABELS, LOGITS, VIDEOS = MADE.labels[:, 1], MADE.logits[:, 1], MADE.videos


def test_each_bins_share_loses_one_video_at_a_time_and_the_bins_stay_where_they_are() -> None:
    forecast = expit(LOGITS.astype(np.float64))
    edges = np.unique(np.quantile(forecast, np.arange(1, 4) / 4, method="inverted_cdf"))
    found = reliability_intervals(LABELS, logits=LOGITS, units=VideoUnits.of(VIDEOS), bins=4)
    points = reliability_points(LABELS, logits=LOGITS, bins=4)
    assert len(found) == len(points) == 4
    for bar, point, low, high in zip(found, points, [-1.0, *edges], [*edges, 2.0], strict=True):
        held = (forecast > low) & (forecast <= high)
        left_out = without_each_video(VIDEOS, lambda rows, held=held: float(LABELS[rows][held[rows]].mean()))
        assert bar.value == pytest.approx(point.observed)
        assert (bar.low, bar.high) == pytest.approx(naive_logit(point.observed, left_out))


def test_a_bin_with_one_label_or_of_one_video_has_no_interval_and_says_why() -> None:
    labels = np.array([0, 0, 0, 0, 1, 0])
    logits = np.array([-3.0, -3.0, -3.0, 3.0, 3.0, 3.0])
    units = VideoUnits.of(["a", "b", "c", "d", "d", "d"])
    empty, alone = reliability_intervals(labels, logits=logits, units=units)
    assert (empty.value, empty.low) == (0.0, None)
    assert "exactly 0" in str(empty.reason)
    assert (alone.value, alone.low, alone.reason) == (pytest.approx(1 / 3), None, ONE_VIDEO_ALONE)


def test_a_bin_whose_positives_lie_in_one_video_has_no_interval_from_0_to_1() -> None:
    labels, units = np.array([1, 0, 0, 0, 0, 0, 0, 0]), VideoUnits.of(list("aabbccdd"))
    for truth, value in ((labels, 1 / 8), (1 - labels, 7 / 8)):
        (bar,) = reliability_intervals(truth, logits=np.zeros(8), units=units)
        assert (bar.value, bar.low, bar.high, bar.reason) == (value, None, None, ONE_VIDEO)


def test_the_summary_has_the_bounds_of_every_point_beside_it() -> None:
    fit = summarise(MADE).to_dict()["calibration"]["two_structures"]["reliability"]
    units, labels, logits = VideoUnits.of(VIDEOS), MADE.labels[:, 0], MADE.logits[:, 0]
    held = reliability_intervals(labels, logits=logits, units=units)
    assert [(point["low"], point["high"]) for point in fit] == [(bar.low, bar.high) for bar in held]
    assert all(point["low"] is not None or point["reason"] for point in fit)
