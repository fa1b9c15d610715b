"""Equal treatments against themselves: cuts, what is counted, and what is refused."""

import numpy as np
import pytest

from calot.bench.null_pairs import NOISIER, predictions
from calot.bench.null_runs import cuts_of, null_pairs
from calot.bench.worlds import WORLDS, Training
from calot.errors import CalotError


def test_ten_runs_have_126_cuts_each_once_and_none_twice_the_other_way_round() -> None:
    cuts = cuts_of(10, splits=1000, seed=0)
    assert len(cuts) == len({frozenset(cut) for cut in cuts}) == 126
    assert all(sorted((*a, *b)) == list(range(10)) for a, b in cuts)


def test_of_more_runs_as_many_cuts_as_asked_are_drawn() -> None:
    cuts = cuts_of(14, splits=40, seed=0)
    assert len(set(cuts)) == 40
    assert all(len({*a, *b}) == 10 for a, b in cuts)
    assert cuts == cuts_of(14, splits=40, seed=0)


def test_nine_runs_are_too_few() -> None:
    with pytest.raises(CalotError, match="two sides of 5 need 10"):
        cuts_of(9, splits=1, seed=0)


def test_seeds_of_one_treatment_are_rarely_called_different_and_planted_ones_always() -> None:
    rng = np.random.default_rng(0)
    drawn = WORLDS["typical"].draw(rng, videos=30)
    runs = [predictions(drawn, Training(run_sd=0.1).scores(drawn, rng=rng), seed=s, fingerprint="a") for s in range(10)]
    found = null_pairs(runs, splits=4, seed=0)
    assert found.called <= 1
    assert found.videos == 30
    assert found.minimum_detectable is not None
    assert found.minimum_detectable > found.half_width > found.deviation  # 80 % power asks for more than an interval


def test_another_treatment_among_them_is_refused() -> None:
    rng = np.random.default_rng(0)
    drawn = WORLDS["typical"].draw(rng, videos=20)
    runs = [predictions(drawn, NOISIER.scores(drawn, rng=rng), seed=s, fingerprint=str(s > 3)) for s in range(10)]
    with pytest.raises(CalotError, match="2 treatments among the runs"):
        null_pairs(runs, splits=5, seed=0)
