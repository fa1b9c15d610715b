"""Which seeds a permutation test pairs: all of them alike, and no more pairs than that takes."""

from __future__ import annotations

from fractions import Fraction
from math import gcd
from typing import Any

import numpy as np
import pytest
from prediction_tables import clustered

from calot.statistics.permutation import paired_seeds, swap_videos
from calot.statistics.resampling import WeightedAP

SIZES = [(5, 5), (5, 10), (10, 5), (5, 7), (3, 8), (1, 6), (6, 1), (1, 1)]


@pytest.mark.parametrize(("a", "b"), SIZES)
def test_every_seed_counts_alike_in_as_few_pairs_as_that_takes(a: int, b: int) -> None:
    pairs = paired_seeds(a, b)
    assert len(pairs) == a + b - gcd(a, b)
    for side, count in ((0, a), (1, b)):
        sums = [sum(pair[2] for pair in pairs if pair[side] == seed) for seed in range(count)]
        assert sums == [Fraction(1, count)] * count


def test_equal_counts_pair_in_order_one_seed_meets_all_and_the_sides_can_be_exchanged() -> None:
    assert paired_seeds(5, 5) == [(i, i, Fraction(1, 5)) for i in range(5)]
    assert paired_seeds(1, 4) == [(0, j, Fraction(1, 4)) for j in range(4)]
    assert sorted((j, i, weight) for i, j, weight in paired_seeds(5, 7)) == paired_seeds(7, 5)


@pytest.mark.parametrize(("a", "b", "pairs"), [(5, 5, 5), (5, 10, 10), (4, 7, 10)])
def test_unequal_numbers_of_seeds_sort_no_more_tables_than_their_sum(
    monkeypatch: pytest.MonkeyPatch, a: int, b: int, pairs: int
) -> None:
    sorted_tables, of = [], WeightedAP.of

    def counting(*given: Any, **named: Any) -> WeightedAP:
        sorted_tables.append(1)
        return of(*given, **named)

    monkeypatch.setattr(WeightedAP, "of", counting)
    sides = [[clustered(model=model, run=run, frames=5) for run in range(n)] for model, n in ((1, a), (2, b))]
    swap_videos(*sides, replicates=9)
    assert len(sorted_tables) == 3 * pairs  # a * b pairs of three criteria where every seed met every other


def test_p_for_unequal_numbers_of_seeds_is_that_of_every_pair_within_monte_carlo_error() -> None:
    a = [clustered(model=1, run=run, gain=1.6, frames=20) for run in range(2)]
    b = [clustered(model=2, run=run, frames=20) for run in range(3)]
    few = swap_videos(a, b, replicates=400)
    repeated = swap_videos([left for left in a for _ in b], b * len(a), replicates=400)  # six pairs: every one
    assert np.abs(few - repeated).max() < 0.05
    assert swap_videos(b, a, replicates=400) == pytest.approx(few)
