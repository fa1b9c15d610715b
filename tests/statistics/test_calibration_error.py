"""ECE without its bias, and slope and intercept: against formulas written out, simulation and scikit-learn."""

from __future__ import annotations

import time

import numpy as np
import pytest
from naive_jackknife import naive_plain, without_each_video
from prediction_tables import clustered
from scipy.special import expit, logit
from scipy.stats import foldnorm, norm
from sklearn.linear_model import LogisticRegression

from calot.statistics.calibration import calibration
from calot.statistics.calibration_error import calibration_error, slope_intervals
from calot.statistics.frame_sums import VideoUnits
from calot.statistics.jackknife import ONE_VIDEO_ALONE
from calot.statistics.summary import summarise

MADE = clustered(videos=8, frames=45)
LABELS, LOGITS, VIDEOS = MADE.labels[:, 1], MADE.logits[:, 1], MADE.videos


def naive_errors(rows: np.ndarray) -> tuple[float, float, float]:
    """Plain, perfect and debiased ECE of some rows, bin by bin and video by video."""
    labels, forecast, videos = LABELS[rows], expit(LOGITS[rows].astype(np.float64)), VIDEOS[rows]
    edges = np.unique(np.quantile(forecast, np.arange(1, 15) / 15, method="inverted_cdf"))
    names = sorted(set(videos.tolist()))
    plain = perfect = folded = 0.0
    for low, high in zip([-1.0, *edges], [*edges, 2.0], strict=True):
        held = (forecast > low) & (forecast <= high)
        if not held.any():
            continue
        gap = float((labels - forecast)[held].sum()) / len(rows)
        mean = float((labels - forecast)[held].mean())
        spread = [float((labels - forecast - mean)[held & (videos == name)].sum()) ** 2 for name in names]
        between = sum(spread) * len(names) / (len(names) - 1)
        alone = float((forecast * (1 - forecast))[held].sum())
        error = max(between, alone) ** 0.5 / len(rows)
        plain += abs(gap)
        perfect += foldnorm.mean(0.0, scale=error)
        folded += foldnorm.mean(abs(gap) / error, scale=error)
    return plain, perfect, 2 * plain - folded


def test_the_three_errors_and_the_interval_equal_the_formulas_written_out() -> None:
    found = calibration_error(LABELS, logits=LOGITS, units=VideoUnits.of(VIDEOS))
    plain, perfect, debiased = naive_errors(np.arange(len(LABELS)))
    assert (found.plain, found.perfect, found.debiased.value) == pytest.approx((plain, perfect, debiased))
    assert found.plain == pytest.approx(calibration(LABELS, logits=LOGITS).ece)
    left_out = without_each_video(VIDEOS, lambda rows: naive_errors(rows)[2])
    low, high = naive_plain(debiased, left_out)
    assert (found.debiased.low, found.debiased.high) == pytest.approx((max(low, 0.0), high))


def test_a_perfect_models_plain_ece_is_the_one_foretold_and_its_debiased_one_is_much_less() -> None:
    """Labels drawn from the forecasts: the plain ECE is all noise."""
    rng = np.random.default_rng(3)
    units = VideoUnits.of(np.repeat(np.arange(40), 25))
    found = []
    for _ in range(60):
        logits = rng.normal(-1, 1.5, 1000)
        found.append(calibration_error(rng.random(1000) < expit(logits), logits=logits, units=units))
    plain, perfect = np.mean([item.plain for item in found]), np.mean([item.perfect for item in found])
    assert plain == pytest.approx(perfect, rel=0.12)
    assert np.mean([item.debiased.value for item in found]) < 0.7 * plain


def test_labels_correlated_within_videos_make_a_perfect_models_ece_larger_as_foretold() -> None:
    """Each label has its forecast's probability, and those of one video share a part of their luck."""
    rng = np.random.default_rng(11)
    video = np.repeat(np.arange(41), 57)
    units, found, alone = VideoUnits.of(video), [], []
    for _ in range(60):
        forecast = expit(rng.normal(-2, 1.2, len(video)))
        luck = np.sqrt(0.3) * rng.normal(size=41)[video] + np.sqrt(0.7) * rng.normal(size=len(video))
        found.append(calibration_error(luck < norm.ppf(forecast), logits=logit(forecast), units=units))
        drawn = rng.random(len(video)) < forecast
        alone.append(calibration_error(drawn, logits=logit(forecast), units=units))
    plain, perfect = np.mean([item.plain for item in found]), np.mean([item.perfect for item in found])
    assert plain == pytest.approx(perfect, rel=0.15)  # twice the noise of a mean of 60 and more
    assert perfect > 1.1 * np.mean([item.perfect for item in alone])
    assert np.mean([item.debiased.low == 0 for item in found]) > 0.85


def test_a_model_that_is_wrong_keeps_nearly_all_of_its_ece() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 1, 4000)
    labels = rng.random(4000) < expit(logits - 2)
    found = calibration_error(labels, logits=logits, units=VideoUnits.of(np.arange(4000) // 100))
    assert found.debiased.value == pytest.approx(found.plain, rel=0.02)
    assert found.debiased.low is not None
    assert found.perfect is not None
    assert found.debiased.low > found.perfect


def test_two_videos_have_a_plain_ece_alone() -> None:
    found = calibration_error([0, 1, 0, 1], logits=[0.0, 1, 2, 3], units=VideoUnits.of(list("aabb")))
    assert (found.perfect, found.debiased.value) == (None, None)
    assert "2 videos" in str(found.debiased.reason)


def test_slope_and_intercept_without_each_video_are_scikit_learns() -> None:
    fit = calibration(LABELS, logits=LOGITS)
    found = slope_intervals(LABELS, logits=LOGITS, units=VideoUnits.of(VIDEOS), fit=fit)
    assert fit.slope is not None
    assert fit.intercept is not None

    def regression(rows: np.ndarray) -> LogisticRegression:
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        return model.fit(LOGITS[rows, None].astype(np.float64), LABELS[rows])

    slopes = without_each_video(VIDEOS, lambda rows: float(regression(rows).coef_[0, 0]))
    intercepts = without_each_video(VIDEOS, lambda rows: float(regression(rows).intercept_[0]))
    for name, value, left_out in (("slope", fit.slope, slopes), ("intercept", fit.intercept, intercepts)):
        assert found[name].value == value
        assert (found[name].low, found[name].high) == pytest.approx(naive_plain(value, left_out), abs=1e-4)


def test_the_intercept_in_the_large_is_the_whole_fits_without_each_video() -> None:
    fit = calibration(LABELS, logits=LOGITS)
    found = slope_intervals(LABELS, logits=LOGITS, units=VideoUnits.of(VIDEOS), fit=fit)["in_the_large"]

    def figure(rows: np.ndarray) -> float:
        value = calibration(LABELS[rows], logits=LOGITS[rows]).in_the_large
        assert value is not None
        return value

    assert fit.in_the_large is not None
    expected = naive_plain(fit.in_the_large, without_each_video(VIDEOS, figure))
    assert (found.low, found.high) == pytest.approx(expected)


def test_a_slope_that_one_video_alone_makes_finite_has_no_interval() -> None:
    """Without video a the logits separate the labels."""
    labels, logits = [1, 0, 0, 1, 0, 1, 0, 1], [-1.0, 1.0, -1.0, 1.0, -2.0, 2.0, -3.0, 3.0]
    fit = calibration(labels, logits=logits)
    found = slope_intervals(labels, logits=logits, units=VideoUnits.of(list("aabbccdd")), fit=fit)
    assert found["slope"].value == fit.slope
    assert (found["slope"].low, found["slope"].reason) == (None, ONE_VIDEO_ALONE)


def test_every_interval_of_12000_frames_in_41_videos_takes_seconds() -> None:
    made = clustered(videos=41, frames=300)
    begun = time.perf_counter()
    summarise(made).to_dict()
    assert time.perf_counter() - begun < 15
