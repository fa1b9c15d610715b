"""Samplers draw what they say they draw."""

from __future__ import annotations

import numpy as np
import pytest

from calot.data.sampling import AnyPositive, Balanced, RareCombination, Sampler, Uniform
from calot.errors import CalotError

LABELS = np.array([[0, 0, 0]] * 7 + [[1, 0, 0]] * 2 + [[1, 1, 1]], dtype=np.float32)
SAMPLERS: list[Sampler] = [Uniform(), Balanced(), AnyPositive(), RareCombination()]


def test_uniform_is_a_permutation() -> None:
    order = Uniform().order(LABELS, rng=np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(10))
    assert order.dtype == np.int64


def test_balanced_weighs_a_clip_by_the_mean_over_criteria_of_n_over_twice_its_values_count() -> None:
    weights = np.array(
        [(10 / (2 * 7) + 10 / (2 * 9) * 2) / 3] * 7
        + [(10 / (2 * 3) + 10 / (2 * 9) * 2) / 3] * 2
        + [(10 / (2 * 3) + 10 / (2 * 1) * 2) / 3]
    )
    np.testing.assert_allclose(Balanced().expected(LABELS), weights / weights.sum(), rtol=1e-12)


def test_balanced_on_one_criterion_alone_draws_both_values_alike() -> None:
    labels = LABELS[:, :1]
    assert float(Balanced().expected(labels) @ labels[:, 0]) == pytest.approx(0.5)


def test_any_positive_draws_its_share() -> None:
    expected = AnyPositive(share=0.3).expected(LABELS)
    assert float(expected[7:].sum()) == pytest.approx(0.3)


def test_rare_combination_draws_each_combination_alike() -> None:
    expected = RareCombination().expected(LABELS)
    assert [float(expected[:7].sum()), float(expected[7:9].sum()), float(expected[9])] == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_epoch_is_as_long_as_the_data_and_its_draws_follow_what_is_expected(sampler: Sampler) -> None:
    labels = np.tile(LABELS, (1000, 1))
    order = sampler.order(labels, rng=np.random.default_rng(3))
    expected = sampler.expected(labels)
    assert len(order) == len(labels)
    assert float(expected.sum()) == pytest.approx(1)
    np.testing.assert_allclose(labels[order].mean(axis=0), expected @ labels, atol=0.02)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_equal_seeds_give_equal_orders(sampler: Sampler) -> None:
    one = sampler.order(LABELS, rng=np.random.default_rng([1, 2]))
    assert (one == sampler.order(LABELS, rng=np.random.default_rng([1, 2]))).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_soft_targets_count_as_positive_from_one_half(sampler: Sampler) -> None:
    soft = np.where(LABELS > 0, 0.5, 0.49).astype(np.float32)
    np.testing.assert_array_equal(sampler.expected(soft), sampler.expected(LABELS))


def test_a_share_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(CalotError, match="0 of 7 clips have a positive criterion"):
        AnyPositive().expected(LABELS[:7])
    with pytest.raises(CalotError, match=r"AnyPositive\.share=1\.5"):
        AnyPositive(share=1.5)


def test_balanced_bears_a_criterion_without_positives() -> None:
    expected = Balanced().expected(LABELS[:9])
    assert np.isfinite(expected).all()
