"""Intervals over videos: exact replicates, honest widths, reasons where nothing can be told."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest
from prediction_tables import clustered, table
from scipy.special import logit
from scipy.stats import t as student
from sklearn.metrics import average_precision_score

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.intervals import METHODS, jackknife_logit, percentile, video_intervals
from calot.statistics.predictions import Predictions
from calot.statistics.resampling import WeightedAP, bootstrap_weights, jackknife_weights


def naive(labels: np.ndarray, *, scores: np.ndarray, units: np.ndarray, weights: np.ndarray) -> list[float]:
    """Build each replicate's rows and ask scikit-learn."""
    rows = [np.flatnonzero(units == unit) for unit in range(weights.shape[1])]
    found = []
    for weight in weights:
        picked = np.concatenate([rows[unit] for unit in np.repeat(np.arange(len(weight)), weight)])
        found.append(average_precision_score(labels[picked], scores[picked]) if labels[picked].any() else np.nan)
    return found


@pytest.mark.parametrize("digits", [0, 1, 6])
def test_the_bootstrap_equals_a_naive_sklearn_loop_to_1e12(digits: int) -> None:
    rng = np.random.default_rng(digits)
    units = np.repeat(np.arange(12), rng.integers(1, 60, 12))
    labels = (rng.normal(size=12)[units] + rng.normal(size=len(units)) > 0.8).astype(int)
    scores = np.round(labels + rng.normal(size=len(units)) * 2, digits)
    weights = bootstrap_weights(12, replicates=100, seed=3)
    found = WeightedAP.of(labels, scores=scores, units=units, count=12)(weights)
    expected = naive(labels, scores=scores, units=units, weights=weights)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_replicates_are_exact_with_huge_logits_and_one_dominating_video() -> None:
    rng = np.random.default_rng(5)
    units = np.r_[np.zeros(3000, dtype=int), np.repeat(np.arange(1, 8), 5)]
    labels = rng.integers(0, 2, len(units))
    scores = rng.normal(size=len(units))
    scores[:40] = rng.choice([1e30, -1e30, 3e38, 0.0], 40)
    weights = np.concatenate([bootstrap_weights(8, replicates=40), jackknife_weights(8)])
    found = WeightedAP.of(labels, scores=scores, units=units, count=8)(weights)
    expected = naive(labels, scores=scores, units=units, weights=weights)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_a_replicate_without_positives_is_undefined_never_zero() -> None:
    engine = WeightedAP.of([1, 0, 0], scores=[1.0, 2.0, 3.0], units=[0, 1, 2], count=3)
    found = engine([[1, 1, 1], [0, 2, 1]])
    assert found[0] == pytest.approx(1 / 3)
    assert np.isnan(found[1])
    assert np.isnan(WeightedAP.of([0, 0], scores=[1.0, 2.0], units=[0, 1], count=2)([[1, 1]])).all()


def test_the_jackknife_equals_its_formula() -> None:
    left_out = np.array([0.5, 0.55, 0.6, 0.52])
    phi = logit(left_out)
    half = student.ppf(0.975, 3) * np.sqrt(3 / 4 * ((phi - phi.mean()) ** 2).sum())
    found = jackknife_logit(left_out, value=0.54)
    assert found.low is not None
    assert found.high is not None
    assert logit([found.low, found.high]) == pytest.approx([logit(0.54) - half, logit(0.54) + half])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_brackets_the_value_and_reports_sklearns(method: str) -> None:
    made = clustered()
    found = video_intervals(made, method=method, replicates=400)  # type: ignore[arg-type]
    for k, name in enumerate(CRITERIA):
        item = found.ap[name]
        assert item.value == average_precision_score(made.labels[:, k], made.logits[:, k].astype(np.float64))
        assert item.low is not None
        assert item.high is not None
        assert 0 <= item.low < item.value < item.high <= 1
    assert found.map.value == pytest.approx(np.mean([found.ap[name].value for name in CRITERIA]))


def test_an_interval_by_video_is_wider_than_one_by_frame_on_clustered_data() -> None:
    made = clustered(videos=30, frames=60)
    by_video = video_intervals(made, method="percentile", replicates=500).ap["cystic_plate"]
    frames = len(made.frames)
    engine = WeightedAP.of(made.labels[:, 2], scores=made.logits[:, 2], units=np.arange(frames), count=frames)
    by_frame = percentile(engine(bootstrap_weights(frames, replicates=300)), value=by_video.value or 0)
    assert by_video.high - by_video.low > 2.5 * (by_frame.high - by_frame.low)  # type: ignore[operator]


def three_videos(labels: list[list[int]], *, scores: list[float] | None = None) -> Predictions:
    n = len(labels)
    logits = np.repeat(np.array(scores or np.arange(n))[:, None], 3, axis=1)
    return Predictions(frame=table(labels, logits=logits, videos=[f"v{i % 3}" for i in range(n)]))


def test_no_positives_gives_no_value_and_the_reason() -> None:
    found = video_intervals(three_videos([[1, 0, 1], [0, 0, 1], [1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1]]))
    assert found.ap["hepatocystic_triangle"].value is None
    assert found.ap["hepatocystic_triangle"].reason == "no positive label"
    assert found.map.value is None
    assert found.map.reason == "no positive label for hepatocystic_triangle"
    assert found.ap["two_structures"].value is not None


def test_positives_in_one_video_give_a_value_without_interval() -> None:
    found = video_intervals(three_videos([[1, 1, 1], [0, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0]]))
    item = found.ap["two_structures"]
    assert item.value is not None
    assert (item.low, item.high) == (None, None)
    assert "lie in one video" in (item.reason or "")
    assert found.map.low is None


def test_fewer_than_three_videos_have_no_interval() -> None:
    made = clustered(videos=8)
    two = Predictions(
        frame=made.frame.filter(pl.col("video").is_in(["0", "1"])).with_columns(label_cystic_plate=pl.lit(1))
    )
    found = video_intervals(two).ap["cystic_plate"]
    assert found.value == 1.0
    assert found.reason == "2 videos: an interval over videos needs 3"


def test_an_ap_of_one_has_no_width_on_the_logit_scale_and_says_so() -> None:
    perfect = three_videos([[0, 0, 0]] * 3 + [[1, 1, 1]] * 3, scores=[0, 0, 0, 9, 9, 9])
    found = video_intervals(perfect, method="jackknife_logit").map
    assert found.value == 1.0
    assert found.low is None
    assert "exactly 1" in (found.reason or "")


def test_one_video_that_holds_every_error_still_gives_an_interval_inside_0_and_1() -> None:
    labels = [[0, 0, 0]] * 3 + [[1, 1, 1]] * 3 + [[0, 0, 0]]
    found = video_intervals(three_videos(labels, scores=[0, 0, 0, 9, 9, 9, 10]), method="jackknife_logit").map
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < found.high <= 1


def test_seeds_are_averaged_not_pooled() -> None:
    a, b = clustered(run=0), clustered(run=1)
    found = video_intervals([a, b]).map.value
    apart = [video_intervals(part).map.value for part in (a, b)]
    assert found == pytest.approx(np.mean(apart))  # type: ignore[arg-type]
    assert video_intervals(Predictions(frame=pl.concat([a.frame, b.frame]))).map.value == pytest.approx(found)


def test_the_default_is_the_jackknife_with_satterthwaites_degrees() -> None:
    made = clustered()
    assert video_intervals(made) == video_intervals(made, method="jackknife_logit_df")


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(CalotError, match="method='bootstrap'"):
        video_intervals(clustered(), method="bootstrap")  # type: ignore[arg-type]


def test_two_thousand_replicates_of_twelve_thousand_frames_take_about_a_second() -> None:
    made = clustered(videos=41, frames=293)
    times = []
    for _ in range(3):
        start = time.process_time()
        video_intervals(made, method="percentile", replicates=2000)
        times.append(time.process_time() - start)
    assert min(times) < 3.0  # about 0.3 to 1 s of one core; wide for a busy machine
