"""Calibration, thresholds and net benefit with answers known beforehand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from prediction_tables import clustered, table
from sklearn.linear_model import LogisticRegression

from calot.errors import CalotError
from calot.statistics.calibration import (
    Thresholds,
    best_f1,
    calibration,
    choose_thresholds,
    decision_curve,
    reliability_points,
)
from calot.statistics.metrics import sigmoid
from calot.statistics.predictions import Predictions


def drawn(*, slope: float, shift: float, n: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the true probability, and logits that misstate it by `slope` and `shift`."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=n) - 1.0
    labels = rng.random(n) < sigmoid(truth)
    return labels.astype(int), (truth - shift) / slope


def test_true_probabilities_are_calibrated() -> None:
    labels, logits = drawn(slope=1.0, shift=0.0)
    found = calibration(labels, logits=logits)
    assert found.slope == pytest.approx(1.0, abs=0.05)
    assert found.intercept == pytest.approx(0.0, abs=0.05)
    assert found.in_the_large == pytest.approx(0.0, abs=0.05)
    assert found.ece < 0.01
    assert sum(point.frames for point in found.reliability) == len(labels)
    assert len({point.frames for point in found.reliability}) <= 2  # equal mass


def test_overconfident_logits_show_their_slope_and_intercept() -> None:
    labels, logits = drawn(slope=0.5, shift=0.4)
    found = calibration(labels, logits=logits)
    assert found.slope == pytest.approx(0.5, abs=0.03)
    assert found.intercept == pytest.approx(0.4, abs=0.05)
    assert found.ece > 0.05


def test_slope_and_intercept_equal_an_unpenalised_sklearn_fit() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=500) * 3
    labels = (logits + rng.normal(size=500) * 4 > 1).astype(int)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logits[:, None], labels)
    found = calibration(labels, logits=logits)
    assert found.slope == pytest.approx(model.coef_[0, 0], abs=1e-5)
    assert found.intercept == pytest.approx(model.intercept_[0], abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "logits", "reason"),
    [
        ([0, 0, 0], [0.0, 1.0, 2.0], "no positive label"),
        ([1, 1, 1], [0.0, 1.0, 2.0], "no negative label"),
        ([0, 1, 0], [1.0, 1.0, 1.0], "every logit is equal"),
        ([0, 0, 1], [0.0, 1.0, 2.0], "separate"),
    ],
)
def test_an_undefined_slope_has_a_reason(labels: list[int], logits: list[float], reason: str) -> None:
    found = calibration(labels, logits=logits)
    assert found.slope is None
    assert found.intercept is None
    assert reason in (found.reason or "")
    assert 0 <= found.ece <= 1


def test_huge_logits_do_not_break_the_fit() -> None:
    rng = np.random.default_rng(2)
    found = calibration(rng.integers(0, 2, 300), logits=np.r_[[1e30, -1e30], rng.normal(size=298)])
    assert found.slope is None or np.isfinite(found.slope)


def test_ece_of_a_hand_computed_table_with_ties() -> None:
    points = reliability_points([1, 0, 1, 1], logits=[0.0, 0.0, 0.0, 0.0])
    assert [(p.forecast, p.observed, p.frames) for p in points] == [(0.5, 0.75, 4)]
    assert calibration([1, 0, 1, 1], logits=[0.0] * 4).ece == pytest.approx(0.25)


def test_ece_does_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(3)
    labels, logits = rng.integers(0, 2, 500), np.round(rng.normal(size=500), 1)
    order = rng.permutation(500)
    assert calibration(labels, logits=logits).ece == pytest.approx(calibration(labels[order], logits=logits[order]).ece)


def test_the_threshold_maximises_f1_over_every_cut() -> None:
    rng = np.random.default_rng(4)
    labels, scores = rng.integers(0, 2, 80), np.round(rng.normal(size=80), 1)

    def f1(cut: float) -> float:
        called = scores >= cut
        return 2 * (called & (labels == 1)).sum() / (called.sum() + labels.sum())

    found = best_f1(labels, scores=scores)
    assert found is not None
    best = max(f1(cut) for cut in scores)
    assert f1(found) == best
    assert found == max(cut for cut in scores if f1(cut) == best)
    assert best_f1([0, 0], scores=[1.0, 2.0]) is None


def test_thresholds_return_from_disk_and_remember_where_they_were_frozen(tmp_path: Path) -> None:
    made = choose_thresholds(clustered())
    assert made.split == "val"
    assert "F1" in made.rule
    assert Thresholds.load(made.write(tmp_path / "thresholds.json")) == made
    (tmp_path / "thresholds.json").write_text("{}")
    with pytest.raises(CalotError, match=r"thresholds\.json: not a thresholds file"):
        Thresholds.load(tmp_path / "thresholds.json")


def test_thresholds_are_never_chosen_on_test() -> None:
    made = clustered()
    on_test = replace(made, frame=made.frame.with_columns(pl.lit("test").alias("split")))
    with pytest.raises(CalotError, match="never on test"):
        choose_thresholds(on_test)


def test_a_criterion_without_positives_has_no_threshold() -> None:
    made = Predictions(frame=table([[1, 0, 1], [0, 0, 1]], logits=[[1, 2, 3], [0, 0, 0]], videos=["a", "b"]))
    assert choose_thresholds(made).values["hepatocystic_triangle"] is None


def test_net_benefit_of_a_perfect_forecast_is_the_prevalence() -> None:
    curve = decision_curve([1, 0, 0, 0], logits=[50.0, -50.0, -50.0, -50.0], probabilities=[0.2, 0.5])
    assert [point.model for point in curve] == [0.25, 0.25]
    assert [point.treat_all for point in curve] == pytest.approx([0.25 - 0.75 * 0.25, 0.25 - 0.75])
    assert len(decision_curve([1, 0], logits=[0.0, 0.0])) == 99
    with pytest.raises(CalotError, match="strictly between"):
        decision_curve([1, 0], logits=[0.0, 0.0], probabilities=[0.0])
