"""Prediction sets: counted by hand, unmoved by a long video, and covering what they promise over new videos."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from prediction_tables import clustered

from calot.bench.conformal import measure_sets
from calot.bench.worlds import WORLDS
from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.behaviour import behaviour_of
from calot.statistics.frame_sums import VideoUnits
from calot.statistics.frozen import freeze
from calot.statistics.prediction_sets import (
    SetLimits,
    freeze_limits,
    guaranteed,
    label_scores,
    set_limit,
    set_rates,
)
from calot.statistics.summary import summarise


def naive_limit(scores: np.ndarray, videos: np.ndarray, *, level: float) -> float:
    """The least score at which the videos' mean share of frames, with one video at infinity, reaches the quantile."""
    names = np.unique(videos)
    target = level - 0.5 / (len(names) + 1)
    for limit in np.sort(scores):
        mass = sum(float(np.mean(scores[videos == name] <= limit)) for name in names) / (len(names) + 1)
        if mass >= target - 1e-12:
            return float(limit)
    return float("inf")


def frozen(limit: float | None, *, level: float = 0.9) -> SetLimits:
    values = dict.fromkeys(CRITERIA, limit)
    return SetLimits(values=values, level=level, guaranteed=level, videos=20, split="val")


def test_the_limit_is_the_quantile_of_videos_of_equal_mass() -> None:
    rng = np.random.default_rng(0)
    for count in (4, 9, 20, 41):
        videos = np.repeat(np.arange(count), rng.integers(1, 40, count))
        scores = np.round(rng.normal(size=len(videos)) + rng.normal(size=count)[videos], 2)
        found = set_limit(scores, units=VideoUnits.of(videos), level=0.9)
        assert found == naive_limit(scores, videos, level=0.9)


def test_one_frame_a_video_is_split_conformal_prediction() -> None:
    """19 videos at 90 %: half of the coming video's mass off 90 % is 87.5 %, 17.5 of 20 places, so the 18th score."""
    scores = np.arange(19.0)
    assert guaranteed(0.9, videos=19) == 0.875
    assert set_limit(scores, units=VideoUnits.of(np.arange(19)), level=0.9) == 17.0


def test_a_video_filmed_twice_as_long_counts_once() -> None:
    videos = np.r_[np.repeat(np.arange(10), 5), np.full(500, 10)]
    scores = np.r_[np.zeros(50), np.full(500, 9.0)]  # one long video that disagrees
    assert set_limit(scores, units=VideoUnits.of(videos), level=0.8) == 0.0
    as_frames = VideoUnits.of(np.arange(len(scores)))
    assert set_limit(scores, units=as_frames, level=0.8) == 9.0


def test_too_few_videos_leave_no_limit_and_every_set_has_both_labels() -> None:
    made = clustered(videos=3)
    limits = freeze_limits(made)
    assert set(limits.values.values()) == {None}
    found = behaviour_of(summarise(made), frozen=freeze(made))
    assert found.sets[CRITERIA[0]].abstained.value == 1.0
    assert "too few videos" in found.to_dict()["prediction_sets"]["reason"]


def test_sets_are_counted_by_hand() -> None:
    """Limit 1: logits of at least -1 have label 1 in their set, logits of at most 1 have label 0."""
    labels = np.array([1, 1, 1, 0, 0, 0, 1, 0])
    logits = np.array([2.0, 0.5, -2.0, -3.0, 1.0, 1.5, 4.0, -1.0])
    units = VideoUnits.of(["a", "a", "a", "a", "b", "b", "c", "c"])
    found = set_rates(labels, logits=logits, units=units, limits=frozen(1.0), limit=1.0, own=False)
    assert found.coverage.value == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert found.abstained.value == pytest.approx((1 / 4 + 1 / 2 + 1 / 2) / 3)
    assert found.empty.value == 0.0
    assert found.positives.value == pytest.approx(3 / 4)
    assert found.negatives.value == pytest.approx(3 / 4)
    assert found.accuracy.value == pytest.approx(3 / 5)
    assert (found.ppv.value, found.npv.value) == (pytest.approx(2 / 3), pytest.approx(1 / 2))


def test_a_negative_limit_leaves_sets_empty_near_0() -> None:
    found = set_rates([1, 0, 1], logits=[3.0, -0.5, 0.5], units=VideoUnits.of(["a", "b", "c"]), limits=frozen(-1.0),
                      limit=-1.0, own=False)  # fmt: skip
    assert found.empty.value == pytest.approx(2 / 3)
    assert found.abstained.value == 0.0
    assert found.npv.value is None
    assert found.npv.reason == "no frame has the set {0}"


def test_on_val_each_video_is_held_to_the_limit_of_the_others() -> None:
    made = clustered(videos=14, frames=20)
    found = behaviour_of(summarise(made), frozen=freeze(made)).sets[CRITERIA[1]]
    scores = label_scores(made.labels[:, 1], logits=made.logits[:, 1])
    shares = []
    for name in np.unique(made.videos):
        out = made.videos == name
        limit = naive_limit(scores[~out], made.videos[~out], level=0.9)
        shares.append(float(np.mean(scores[out] <= limit)))
    assert found.coverage.value == pytest.approx(np.mean(shares))
    assert found.limit == naive_limit(scores, made.videos, level=0.9)


def test_on_test_every_video_is_held_to_the_limits_of_val() -> None:
    val, other = clustered(videos=20), clustered(videos=20, seed=5)
    test = replace(other, frame=other.frame.with_columns(pl.lit("test").alias("split")))
    found = behaviour_of(summarise(test), frozen=freeze(val)).sets[CRITERIA[0]]
    scores = label_scores(test.labels[:, 0], logits=test.logits[:, 0])
    limit = naive_limit(label_scores(val.labels[:, 0], logits=val.logits[:, 0]), val.videos, level=0.9)
    assert found.coverage.value == pytest.approx(np.mean(scores <= limit))  # all videos are equally long
    with pytest.raises(CalotError, match="never on test"):
        freeze_limits(test)


def test_an_impossible_level_is_refused_by_name() -> None:
    for level in (0.0, 0.01, 1.0):
        with pytest.raises(CalotError, match=f"coverage={level:g}"):
            set_limit(np.zeros(8), units=VideoUnits.of(np.arange(8)), level=level)


@pytest.mark.parametrize("world", ["typical", "dominating video effects", "a few long videos"])
def test_sets_cover_88_to_92_percent_of_new_videos_at_90(world: str) -> None:
    """200 sets of 41 videos; all worlds and 1,000 sets: docs/results/conformal_coverage.md."""
    found = measure_sets(WORLDS[world], videos=41, sets=200)
    assert 0.88 < found.coverage < 0.92
    assert found.coverage > guaranteed(0.9, videos=41) - 2 * found.standard_error


def test_limits_over_frames_cover_less_than_videos_where_few_videos_have_most_frames() -> None:
    found = measure_sets(WORLDS["a few long videos"], videos=10, sets=200)
    assert found.over_frames < 0.885 < found.coverage
