"""The error of a paired difference and the smallest one a design detects: known answers."""

from __future__ import annotations

import numpy as np
import pytest
from prediction_tables import clustered

from calot.bench.twice_minimum import FoundTwice, found_twice, half_gain_over_seeds, twice_page
from calot.bench.worlds import WORLDS
from calot.statistics import detectable
from calot.statistics.detectable import calibrated, detectable_differences, smallest_reached
from calot.statistics.paired_error import ScoredSide, paired_error
from calot.statistics.resampling import Resampler


def test_the_jackknife_of_a_mean_is_its_textbook_standard_error() -> None:
    x = np.random.default_rng(0).normal(size=30)
    left_out = (x.sum() - x) / 29
    a = np.r_[x.mean(), left_out][:, None]
    found = paired_error(a, np.zeros_like(a), seeds_vary=False)
    assert found.total == pytest.approx(x.std(ddof=1) / np.sqrt(30))
    assert found.seed is None


def test_seeds_and_videos_add_and_their_interaction_is_counted_once() -> None:
    rng = np.random.default_rng(1)
    by_seed, by_video, both = rng.normal(size=5), rng.normal(size=(40, 1)), rng.normal(size=(40, 5)) * 3
    x = by_seed + by_video + both
    a = np.concatenate([x.mean(axis=0, keepdims=True), (x.sum(axis=0) - x) / 39])
    found = paired_error(a, np.zeros_like(a), seeds_vary=True)
    seeds = x.mean(axis=0).var(ddof=1) / 5
    video = x.mean(axis=1).var(ddof=1) / 40
    moved = x - x.mean(axis=0)
    interaction = moved.var(axis=1, ddof=1).sum() / 39 / 40 / 5
    assert found.video == pytest.approx(np.sqrt(video))
    assert found.seed == pytest.approx(np.sqrt(seeds))
    assert found.total == pytest.approx(np.sqrt(max(video, seeds, video + seeds - interaction)))


def test_a_constant_standard_error_gives_the_formula_in_both_directions() -> None:
    planted = np.array([-0.8, -0.3, -0.1, 0.05, 0.2, 0.5, 0.9])
    assert smallest_reached(planted, needed=np.full(7, 0.15)) == pytest.approx(0.15, abs=1e-3)
    assert smallest_reached(planted, needed=np.full(7, 2.0)) is None


def test_a_standard_error_that_grows_with_the_difference_is_followed() -> None:
    planted = np.linspace(-0.9, 0.9, 19)
    found = smallest_reached(planted, needed=0.1 + 0.5 * np.abs(planted))
    assert found == pytest.approx(0.2, abs=0.005)


def test_more_videos_detect_less_and_swapping_the_sides_changes_nothing() -> None:
    def sides(videos: int) -> tuple[ScoredSide, ScoredSide]:
        a, b = (clustered(videos=videos, frames=20, model=model) for model in (1, 2))
        return ScoredSide.of(Resampler.of([a])), ScoredSide.of(Resampler.of([b]))

    few, many = (detectable_differences(*sides(videos), seeds_vary=False)[3] for videos in (12, 60))
    assert few is not None
    assert many is not None
    assert many < few
    a, b = sides(12)
    assert detectable_differences(b, a, seeds_vary=False)[3] == pytest.approx(few)


def test_few_positive_videos_ask_for_more_and_many_for_less_up_to_what_can_be_planted() -> None:
    assert calibrated(0.1, positive_videos=3, largest=0.9) == pytest.approx(0.1 * (0.88 + 0.6))
    assert calibrated(0.1, positive_videos=60, largest=0.9) == pytest.approx(0.1 * 0.91)
    assert calibrated(0.4, positive_videos=3, largest=0.5) is None
    assert calibrated(None, positive_videos=9, largest=0.9) is None


def test_two_checkpoints_are_calibrated_by_the_videos_with_positives_of_the_rarest_criterion() -> None:
    """With seeds that vary the difference stays what the formula gives; one seed per side tells nothing of seeds."""
    made = [clustered(videos=12, frames=20, model=model) for model in (1, 2)]
    engines = [Resampler.of([one]) for one in made]
    sides = [ScoredSide.of(engine) for engine in engines]
    found, plain = detectable_differences(*sides, seeds_vary=False), _uncalibrated(*sides)
    for value, before, held in zip(
        found, plain, (*engines[0].positive_videos, min(engines[0].positive_videos)), strict=True
    ):
        assert before is not None
        assert value == pytest.approx(before * (0.88 + 1.8 / held))


def _uncalibrated(a: ScoredSide, b: ScoredSide) -> list[float | None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detectable, "calibrated", lambda value, **_: value)
        return detectable_differences(a, b, seeds_vary=False)


def test_a_side_scores_as_the_resampler_does_and_positives_move_only_up() -> None:
    engine = Resampler.of([clustered(videos=12)])
    side = ScoredSide.of(engine)
    whole = engine.ap(np.ones((1, 12)))[0]
    assert side.left_out()[0, :, :3] == pytest.approx(whole)
    assert (side.shifted(np.full(3, 2.0)).left_out()[0, 0, :3] > whole[0]).all()


@pytest.mark.slow
def test_twice_the_printed_minimum_is_found_and_what_cannot_be_planted_is_counted() -> None:
    """The measured rates are in docs/results/twice_minimum.md."""
    found = found_twice(WORLDS["typical"], videos=41, sets=5)
    assert 0.05 < found.printed < 0.25
    assert found.planted[2] >= 4
    assert found.found[2] == found.planted[2]
    assert half_gain_over_seeds(WORLDS["typical"], difference=0.999) is None
    small, large = (half_gain_over_seeds(WORLDS["typical"], difference=d) for d in (0.05, 0.2))
    assert small is not None
    assert large is not None
    assert 0 < small < large


def test_the_page_of_twice_the_minimum_names_the_worst_cell() -> None:
    cells = {
        ("typical", 41): FoundTwice(sets=10, printed=0.1, none=0, planted={1: 10, 2: 8}, found={1: 8, 2: 8}),
        ("good", 41): FoundTwice(sets=10, printed=0.2, none=1, planted={1: 9, 2: 0}, found={1: 3, 2: 0}),
    }
    page = twice_page(cells, command="c", date="d")
    assert "| typical | 41 | 10.0 points | 0 | 10 | 80.0% | 8 | 100.0% |" in page
    assert "Once the printed minimum: found in 57.9% of 19; worst 33.3% (good, 41 videos); below 90% in 2 of 2" in page
    assert (
        "Twice the printed minimum: found in 100.0% of 8; worst 100.0% (typical, 41 videos); below 90% in 0 of 1"
        in page
    )
