"""Temperature scaling: a known temperature is found again, and no video helps to choose what it is scaled with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from prediction_tables import clustered
from scipy.optimize import minimize_scalar

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.behaviour import behaviour_of
from calot.statistics.calibration_error import calibration_error
from calot.statistics.frame_sums import VideoUnits
from calot.statistics.frozen import freeze
from calot.statistics.metrics import sigmoid
from calot.statistics.predictions import Predictions
from calot.statistics.summary import summarise
from calot.statistics.temperature import fit_temperatures, left_out_temperatures, scaling, temperature


def drawn(*, true: float, n: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the true probability, and logits that are `true` times too extreme."""
    rng = np.random.default_rng(0)
    logit = 1.5 * rng.normal(size=n) - 0.7
    return (rng.random(n) < sigmoid(logit)).astype(int), true * logit


def naive(labels: np.ndarray, logits: np.ndarray) -> float:
    def loss(log_t: float) -> float:
        z = logits / np.exp(log_t)
        return float(np.sum(np.logaddexp(0, z) - labels * z))

    return float(np.exp(minimize_scalar(loss, bounds=(-6, 6), method="bounded", options={"xatol": 1e-10}).x))


def on(made: Predictions, split: str) -> Predictions:
    return replace(made, frame=made.frame.with_columns(pl.lit(split).alias("split")))


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found_again(true: float) -> None:
    labels, logits = drawn(true=true)
    assert temperature(labels, logits=logits) == pytest.approx(true, rel=0.03)


def test_the_temperature_has_the_lowest_loss_of_all() -> None:
    rng = np.random.default_rng(3)
    for spread in (0.01, 1.0, 300.0):
        labels = rng.integers(0, 2, 400)
        logits = spread * (rng.normal(size=400) + 0.4 * labels)
        assert temperature(labels, logits=logits) == pytest.approx(naive(labels, logits / spread) * spread, rel=1e-5)


def test_the_scaled_probabilities_are_calibrated_and_the_ranks_stay() -> None:
    labels, logits = drawn(true=3.0, n=8_000)
    units = VideoUnits.of(np.repeat(np.arange(20), 400))
    found = scaling(labels, logits=logits, units=units, frozen=3.0, reason=None, own=False)
    assert found.after is not None
    assert found.before.slope.value == pytest.approx(1 / 3, rel=0.1)
    assert found.after.slope.value == pytest.approx(1.0, rel=0.1)
    assert found.after.ece.plain < 0.03 < found.before.ece.plain
    assert found.brier_change.high is not None
    assert found.brier_change.high < 0
    difference = found.after.brier.value.value - found.before.brier.value.value  # type: ignore[operator]
    assert found.brier_change.value == pytest.approx(difference)


@pytest.mark.parametrize(
    ("labels", "logits", "reason"),
    [
        ([0, 0, 0], [0.0, 1.0, 2.0], "no positive label"),
        ([1, 1, 1], [0.0, 1.0, 2.0], "no negative label"),
        ([0, 1, 1], [-1.0, 1.0, 2.0], "its label's side"),
        ([1, 0, 1, 0], [-1.0, 1.0, -2.0, 0.5], "against the labels"),
        ([0, 1, 0], [0.0, 0.0, 0.0], "its label's side"),
    ],
)
def test_an_undefined_temperature_has_a_reason(labels: list[int], logits: list[float], reason: str) -> None:
    found = temperature(labels, logits=logits)
    assert isinstance(found, str)
    assert reason in found


def test_on_val_each_video_is_scaled_with_the_temperature_of_the_others() -> None:
    made = clustered(videos=9, frames=30)
    units = VideoUnits.of(made.videos)
    labels, logits = made.labels[:, 0], made.logits[:, 0].astype(float)
    each = left_out_temperatures(labels, logits=logits, units=units)
    scaled = np.empty(len(labels))
    for video in range(units.count):
        out = units.index == video
        alone = naive(labels[~out], logits[~out])
        assert each[video] == pytest.approx(alone, rel=1e-6)
        scaled[out] = logits[out] / alone
    found = behaviour_of(summarise(made), frozen=freeze(made)).scaling[CRITERIA[0]]
    assert found.after is not None
    assert found.after.brier.value.value == pytest.approx(np.mean((sigmoid(scaled) - labels) ** 2), rel=1e-7)
    assert found.after.ece.plain == pytest.approx(calibration_error(labels, logits=scaled, units=units).plain, rel=1e-6)
    whole = np.mean((sigmoid(logits / naive(labels, logits)) - labels) ** 2)
    assert abs(found.after.brier.value.value - whole) > 1e-5  # type: ignore[operator]


def test_on_test_all_videos_are_scaled_with_the_temperature_of_val() -> None:
    val, test = clustered(videos=12), on(clustered(videos=12, seed=5), "test")
    frozen = freeze(val)
    found = behaviour_of(summarise(test), frozen=frozen).scaling[CRITERIA[0]]
    value = frozen.temperatures.values[CRITERIA[0]]
    assert value == pytest.approx(naive(val.labels[:, 0], val.logits[:, 0].astype(float)), rel=1e-6)
    assert found.after is not None
    assert found.temperature.value == value
    expected = np.mean((sigmoid(test.logits[:, 0] / value) - test.labels[:, 0]) ** 2)
    assert found.after.brier.value.value == pytest.approx(expected)


def test_temperatures_are_never_fitted_on_test() -> None:
    with pytest.raises(CalotError, match="never on test"):
        fit_temperatures(on(clustered(), "test"))


def test_a_criterion_without_positives_has_no_temperature_and_says_why() -> None:
    made = clustered()
    frame = made.frame.with_columns(pl.lit(0, dtype=pl.Int8).alias("label_cystic_plate"))
    empty = replace(made, frame=frame)
    fields = behaviour_of(summarise(empty), frozen=freeze(empty)).to_dict()["temperature_scaling"]
    assert fields["criteria"]["cystic_plate"]["after"] is None
    assert fields["criteria"]["cystic_plate"]["temperature"]["reason"] == "no positive label"
    assert fields["applied"] == "each video with the temperature fitted on the other videos"
