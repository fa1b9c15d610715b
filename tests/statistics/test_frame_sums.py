"""Brier score, decisions and net benefit: their intervals equal a recomputation of the table without each video."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from naive_jackknife import naive_logit, naive_plain, without_each_video
from prediction_tables import clustered

from calot.statistics.calibration import decision_curve
from calot.statistics.frame_sums import (
    RATES,
    VideoUnits,
    brier_intervals,
    decision_intervals,
    decision_points,
)
from calot.statistics.metrics import brier, decisions

MADE = clustered(videos=9, frames=30)
LABELS, LOGITS, VIDEOS = MADE.labels[:, 0], MADE.logits[:, 0], MADE.videos
UNITS = VideoUnits.of(VIDEOS)


def test_brier_score_and_skill() -> None:
    found, whole = brier_intervals(LABELS, logits=LOGITS, units=UNITS), brier(LABELS, logits=LOGITS)
    values = without_each_video(VIDEOS, lambda rows: brier(LABELS[rows], logits=LOGITS[rows]).value)
    assert (found.value.low, found.value.high) == pytest.approx(naive_logit(whole.value, values))
    skills = without_each_video(VIDEOS, lambda rows: cast(float, brier(LABELS[rows], logits=LOGITS[rows]).skill))
    assert whole.skill is not None
    assert (found.value.value, found.skill.value) == pytest.approx((whole.value, whole.skill))
    assert (found.skill.low, found.skill.high) == pytest.approx(naive_plain(whole.skill, skills))
    assert found.skill_left_out == pytest.approx(skills)


def test_brier_against_rater_means_loses_the_same_video_from_its_reference() -> None:
    soft = LABELS * 2 / 3
    found = brier_intervals(soft, logits=LOGITS, units=UNITS)
    skills = without_each_video(VIDEOS, lambda rows: cast(float, brier(soft[rows], logits=LOGITS[rows]).skill))
    assert found.skill_left_out == pytest.approx(skills)


@pytest.mark.parametrize("rate", RATES)
def test_each_rate_at_a_fixed_threshold(rate: str) -> None:
    def figure(rows: np.ndarray) -> float:
        return float(getattr(decisions(LABELS[rows], scores=LOGITS[rows], threshold=0.7), rate))

    found = decision_intervals(LABELS, scores=LOGITS, threshold=0.7, units=UNITS)[rate]
    whole = figure(np.arange(len(LABELS)))
    assert found.value == pytest.approx(whole)
    assert (found.low, found.high) == pytest.approx(naive_logit(whole, without_each_video(VIDEOS, figure)))


def test_four_hand_counted_videos() -> None:
    """Sensitivity 4 of 6; without each video 3/4, 2/4, 3/5, 4/5."""
    labels = [1, 1, 1, 1, 1, 1, 0, 0]
    called = [1, 0, 1, 1, 1, 0, 1, 0]
    units = VideoUnits.of(["a", "a", "b", "b", "c", "d", "d", "c"])
    found = decision_intervals(labels, scores=called, threshold=0.5, units=units)["sensitivity"]
    assert found.value == pytest.approx(4 / 6)
    assert (found.low, found.high) == pytest.approx(naive_logit(4 / 6, [3 / 4, 2 / 4, 3 / 5, 4 / 5]))


def test_a_rate_without_its_frames_says_which_are_missing() -> None:
    found = decision_intervals([1, 0, 1, 0], scores=[0.0] * 4, threshold=1.0, units=VideoUnits.of(list("abcd")))
    assert found["ppv"].value is None
    assert found["ppv"].reason == "no frame is called positive"
    alone = decision_intervals([1, 0, 0, 0], scores=[2.0, 0, 0, 2.0], threshold=1.0, units=VideoUnits.of(list("abcd")))
    assert alone["f1"].value == pytest.approx(2 / 3)
    assert alone["sensitivity"].low is None  # the only positive frame lies in one video


def test_net_benefit_at_each_threshold_probability() -> None:
    points = decision_points(LABELS, logits=LOGITS, units=UNITS)
    curve = decision_curve(LABELS, logits=LOGITS, probabilities=[p.probability for p in points])
    for point, expected in zip(points, curve, strict=True):
        p = point.probability

        def figures(rows: np.ndarray, p: float = p) -> tuple[float, float]:
            (one,) = decision_curve(LABELS[rows], logits=LOGITS[rows], probabilities=[p])
            return one.model, one.treat_all

        left_out = [figures(np.flatnonzero(name != VIDEOS)) for name in sorted(set(VIDEOS.tolist()))]
        assert (point.model.value, point.treat_all.value) == pytest.approx((expected.model, expected.treat_all))
        low, high = naive_plain(expected.model, [model for model, _ in left_out])
        assert (point.model.low, point.model.high) == pytest.approx((low, high))
        gains = [model - max(every, 0.0) for model, every in left_out]
        assert point.gain.value == pytest.approx(expected.model - max(expected.treat_all, 0.0))
        assert (point.gain.low, point.gain.high) == pytest.approx(naive_plain(float(point.gain.value or 0), gains))


def test_a_forecast_of_exactly_the_threshold_probability_is_called() -> None:
    (point,) = decision_points(
        [1, 0, 1, 0], logits=[0.0, -1.0, 0.0, 0.0], units=VideoUnits.of(list("abcd")), probabilities=[0.5]
    )
    assert point.model.value == pytest.approx(2 / 4 - 1 / 4)
