"""A biased rater is named, and only that one; raters who differ in their doubts alone are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calot.statistics.raters import TOGETHER, flipped_signs, rater_bias


def _votes(
    rng: np.random.Generator, *, videos: int = 30, keyframes: int = 8, lean: tuple[float, ...] = (0.0, 0.0, 0.0)
) -> tuple[NDArray[np.int8], NDArray[np.str_]]:
    """Raters who see one state, each with a doubt that lasts for a video, and lean by these amounts."""
    state = rng.normal(size=(videos, 1, 1, 3)) + 0.7 * rng.normal(size=(videos, keyframes, 1, 3)) - 1.2
    doubt = 0.7 * rng.normal(size=(videos, 1, len(lean), 3)) + 0.5 * rng.normal(size=(videos, keyframes, len(lean), 3))
    seen = state + doubt + np.array(lean)[:, None]
    return (seen > 0).astype(np.int8).reshape(-1, len(lean), 3), np.repeat(np.arange(videos).astype(str), keyframes)


@pytest.mark.parametrize("bias", [1.2, -1.2])
@pytest.mark.parametrize("who", range(3))
def test_the_biased_rater_is_named_and_no_other(who: int, bias: float) -> None:
    for seed in range(5):
        lean = tuple(bias if r == who else 0.0 for r in range(3))
        votes, videos = _votes(np.random.default_rng(seed), lean=lean)
        found = rater_bias(votes, videos=videos, raters=["a", "b", "c"])
        assert found is not None
        assert found.named == ["abc"[who]], seed
        assert ("more" if bias > 0 else "less") in found.sentence("abc"[who])
        assert found.departures[0].rater == "a"


def test_raters_who_differ_in_doubts_alone_are_named_in_at_most_the_stated_share() -> None:
    named = 0
    for seed in range(200):
        votes, videos = _votes(np.random.default_rng(seed), videos=16, keyframes=5)
        found = rater_bias(votes, videos=videos, raters=["a", "b", "c"])
        assert found is not None
        named += bool(found.named)
    assert named <= 0.05 * 200


def test_two_biased_raters_leave_the_third_as_the_one_who_departs() -> None:
    """Votes alone cannot tell who is right: the one who differs from both others is named."""
    votes, videos = _votes(np.random.default_rng(0), lean=(1.2, 1.2, 0.0))
    found = rater_bias(votes, videos=videos, raters=["a", "b", "c"])
    assert found is not None
    assert found.named == ["c"]


def test_a_rater_is_compared_with_the_others_on_paper() -> None:
    votes = np.zeros((4, 3, 3), dtype=np.int8)
    votes[:, 0] = 1
    votes[0, 1] = 1
    found = rater_bias(votes, videos=np.array(list("wxyz")), raters=["a", "b", "c"])
    assert found is not None
    one = next(d for d in found.of("a") if d.criterion == TOGETHER)
    assert (one.share, one.others, one.difference.value) == (1.0, 0.125, 0.875)
    assert one.p == pytest.approx(2 / 2**3)  # against b, three videos differ, all one way


def test_keyframes_that_somebody_missed_do_not_count() -> None:
    votes, videos = _votes(np.random.default_rng(0))
    votes[:10, 1] = -1
    found = rater_bias(votes, videos=videos, raters=["a", "b", "c"])
    assert found is not None
    assert found.keyframes == len(votes) - 10
    assert rater_bias(votes[:10], videos=videos[:10], raters=["a", "b", "c"]) is None
    assert rater_bias(votes[:, :1], videos=videos, raters=["a"]) is None


def test_flipped_signs_is_exact_and_its_draws_agree() -> None:
    sums = np.random.default_rng(0).normal(0.4, 1.0, size=14)
    exact = flipped_signs(sums)
    signs = 1 - 2 * np.random.default_rng(1).integers(0, 2, size=(200_000, 14))
    assert exact == pytest.approx((abs(signs @ sums) >= abs(sums.sum())).mean(), abs=0.005)
    assert flipped_signs(np.zeros(5)) == 1.0
    assert flipped_signs(np.ones(40)) < 1e-3
