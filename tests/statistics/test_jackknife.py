"""Intervals from leave-one-video-out values: against the textbook's formulas, and none where nothing can be told."""

from __future__ import annotations

import numpy as np
import pytest
from naive_jackknife import naive_logit, naive_plain
from scipy.stats import binomtest
from scipy.stats import t as student

from calot.statistics.jackknife import (
    NO_SPREAD,
    ONE_VIDEO_ALONE,
    exact_interval,
    plain_interval,
    proportion_interval,
    without_each,
)

VALUES = np.array([1.0, 2.0, 4.0, 8.0, 5.0])


def test_the_jackknife_of_a_mean_is_the_t_interval_of_a_mean() -> None:
    """Squares 9, 4, 0, 16, 1: s^2 = 7.5; Satterthwaite's 2 * 30^2 / 217.5 = 8.3 is held to V - 1 = 4."""
    found = plain_interval(4.0, left_out=without_each(VALUES) / 4)
    half = student.ppf(0.975, 4) * np.sqrt(7.5 / 5)
    assert (found.low, found.high) == pytest.approx((4 - half, 4 + half))


def test_one_video_that_carries_the_variance_leaves_fewer_degrees_of_freedom() -> None:
    values = np.array([0.0, 0.1, -0.1, 0.05, -0.05, 0.02, 30.0])
    found = plain_interval(float(values.mean()), left_out=without_each(values) / 6)
    assert (found.low, found.high) == pytest.approx(
        naive_plain(float(values.mean()), [float(np.delete(values, i).mean()) for i in range(7)])
    )
    assert found.high is not None
    assert found.high - values.mean() > 1.3 * student.ppf(0.975, 6) * values.std(ddof=1) / np.sqrt(7)


def test_a_proportion_is_symmetric_on_the_logit_scale_and_stays_inside_0_and_1() -> None:
    left_out = [0.96, 0.99, 0.97, 0.985]
    found = proportion_interval(0.975, left_out=left_out)
    assert (found.low, found.high) == pytest.approx(naive_logit(0.975, left_out))
    assert found.high is not None
    assert found.high < 1


@pytest.mark.parametrize("interval", [plain_interval, proportion_interval])
def test_where_videos_do_not_suffice_the_reason_stands_in_the_intervals_place(interval: object) -> None:
    assert callable(interval)
    for left_out, reason in (
        ([0.4, 0.6], "2 videos: an interval over videos needs 3"),
        ([0.4, float("nan"), 0.6], ONE_VIDEO_ALONE),
        ([0.5, 0.5, 0.5], NO_SPREAD),
    ):
        found = interval(0.5, left_out=left_out)
        assert (found.value, found.low, found.high, found.reason) == (0.5, None, None, reason)
    for nothing in (None, float("nan")):
        assert interval(nothing, left_out=[0.4, 0.5, 0.6], reason="no label").value is None
        assert interval(nothing, left_out=[0.4, 0.5, 0.6], reason="no label").reason == "no label"


def test_a_proportion_of_exactly_1_has_no_interval_on_the_logit_scale() -> None:
    found = proportion_interval(1.0, left_out=[1.0, 1.0, 1.0])
    assert (found.value, found.low) == (1.0, None)
    assert "exactly 1" in str(found.reason)


def test_nothing_lies_below_the_floor_of_a_statistic() -> None:
    found = plain_interval(-0.01, left_out=[-0.02, 0.03, 0.01], floor=0.0)
    assert found.value == found.low == 0.0
    assert found.high is not None
    assert found.high > 0


@pytest.mark.parametrize(("part", "whole"), [(0, 5), (5, 5), (3, 9), (1, 1), (40, 41)])
def test_a_share_of_videos_has_the_exact_interval_of_clopper_and_pearson(part: int, whole: int) -> None:
    expected = binomtest(part, whole).proportion_ci(0.95, method="exact")
    found = exact_interval(part, whole=whole, reason="none")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == part / whole


def test_a_share_of_no_video_is_undefined() -> None:
    found = exact_interval(0, whole=0, reason="no operation is called")
    assert (found.value, found.low, found.reason) == (None, None, "no operation is called")
