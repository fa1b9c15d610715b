"""Point estimates against scikit-learn and against answers known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from calot.errors import CalotError
from calot.statistics.metrics import average_precision, brier, decisions, mean_ap, prevalence, sigmoid


@pytest.mark.parametrize("seed", range(20))
def test_average_precision_equals_sklearn_with_ties_and_huge_logits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 200)
    scores = np.round(rng.normal(size=200) + labels, 1 if seed % 2 else 6)
    scores[:5] = [1e30, -1e30, 1e30, 3e38, 0.0]
    found = average_precision(labels, scores.astype(np.float32))
    assert found == pytest.approx(average_precision_score(labels, scores.astype(np.float32).astype(float)), abs=1e-12)


def test_average_precision_of_a_hand_computed_ranking() -> None:
    assert average_precision([1, 0, 1, 0], [4.0, 3.0, 2.0, 1.0]) == pytest.approx((1 + 2 / 3) / 2)


def test_equal_scores_give_the_prevalence() -> None:
    assert average_precision([1, 0, 0, 0], [2.0] * 4) == pytest.approx(0.25)
    assert prevalence([1, 0, 0, 0]) == 0.25


def test_large_logits_keep_their_order_where_a_float32_sigmoid_would_tie_them() -> None:
    assert average_precision([0, 1], [30.0, 40.0]) == 1.0


def test_no_positives_is_undefined_never_zero() -> None:
    assert average_precision([0, 0], [1.0, 2.0]) is None
    score = mean_ap([[1, 0, 0], [0, 0, 1]], [[1.0, 2.0, 1.0], [0.0, 1.0, 2.0]])
    assert score.value is None
    assert score.reason == "no positive label for hepatocystic_triangle"
    assert score.defined == ("two_structures", "cystic_plate")
    assert score.over_defined == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pitfall_one_nan_score_turning_map_into_0(bad: float) -> None:
    """It is an error that names the row, neither a 0 nor a number made of the others."""
    with pytest.raises(CalotError, match="row 1"):
        average_precision([0, 1], [0.0, bad])
    scores = np.zeros((3, 3))
    scores[2, 1] = bad
    with pytest.raises(CalotError, match="row 2"):
        mean_ap(np.eye(3, dtype=np.int8), scores)


def test_a_nan_label_is_never_read_as_negative() -> None:
    with pytest.raises(CalotError, match="never read as negative"):
        average_precision([0, 1, np.nan], [0.0, 1.0, 2.0])


def test_sigmoid_is_stable_and_exact() -> None:
    assert sigmoid([0.0, 1e30, -1e30]).tolist() == [0.5, 1.0, 0.0]
    assert sigmoid([-40.0])[0] == pytest.approx(np.exp(-40.0), rel=1e-15)
    assert sigmoid([2.0])[0] == pytest.approx(1 / (1 + np.exp(-2.0)), rel=1e-15)


def test_forecasting_the_prevalence_has_no_brier_skill() -> None:
    found = brier([1, 0, 0, 0], logits=[np.log(0.25 / 0.75)] * 4)
    assert found.value == pytest.approx(0.1875)
    assert found.skill == pytest.approx(0.0, abs=1e-12)


def test_a_perfect_forecast_has_brier_skill_one() -> None:
    assert brier([1, 0], logits=[100.0, -100.0]).skill == pytest.approx(1.0)


def test_brier_skill_without_positives_is_undefined() -> None:
    found = brier([0, 0], logits=[0.0, 0.0])
    assert found.value == 0.25
    assert found.skill is None
    assert found.reason


def test_decisions_of_a_hand_counted_table() -> None:
    found = decisions([1, 1, 0, 0, 0], scores=[2.0, 0.0, 1.0, -1.0, -2.0], threshold=1.0)
    assert (found.true_positives, found.false_positives, found.false_negatives, found.true_negatives) == (1, 1, 1, 2)
    assert found.sensitivity == 0.5
    assert found.specificity == pytest.approx(2 / 3)
    assert found.ppv == 0.5
    assert found.npv == pytest.approx(2 / 3)
    assert found.f1 == 0.5
    assert found.balanced_accuracy == pytest.approx((0.5 + 2 / 3) / 2)


def test_rates_with_an_empty_denominator_are_undefined() -> None:
    found = decisions([0, 0], scores=[0.0, 0.0], threshold=1.0)
    assert found.sensitivity is None
    assert found.ppv is None
    assert found.f1 is None
    assert found.balanced_accuracy is None
    assert found.specificity == 1.0
