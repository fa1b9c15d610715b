"""Where effects lie, by hand; maps that random weights do not change are called by name."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from calot.statistics.clip_means import mean_over_clips, ratio_over_clips
from calot.statistics.occlusion import (
    GRADIENTS,
    OCCLUSION,
    curve_area,
    effect_shares,
    rank_correlation,
    summarise_effects,
    unchanged_maps,
)


def test_shares_are_of_absolute_effects_and_areas_of_the_blocks() -> None:
    effects = np.array([[[1.0, -3.0], [0.0, 0.0]]])
    found = effect_shares(effects, sets={"right": [[0, 0.5], [0, 0.5]], "left": [[1, 0], [1, 0]]})
    assert found == {"share_right": 0.375, "area_right": 0.25, "share_left": 0.25, "area_left": 0.5}
    none = effect_shares(np.zeros((1, 2, 2)), sets={"left": [[1, 0], [1, 0]]})
    assert np.isnan(none["share_left"])
    assert none["area_left"] == 0.5
    assert np.isnan(effect_shares(effects, sets={"x": np.full((2, 2), np.nan)})["share_x"])


def test_the_rank_correlation_ignores_signs_and_scales_and_constant_maps_have_none() -> None:
    one = np.arange(16.0).reshape(1, 4, 4)
    assert rank_correlation(one, -5 * one**3) == pytest.approx(1.0)
    assert rank_correlation(one, one.max() - one) == pytest.approx(-1.0)
    assert np.isnan(rank_correlation(one, np.ones((1, 4, 4))))


def test_the_area_of_a_straight_curve_is_its_middle() -> None:
    assert curve_area([0.0, 1.0, 2.0, 3.0]) == 1.5
    assert curve_area([-2.0, -2.0]) == -2.0


def test_means_and_ratios_over_clips_weigh_clips_and_leave_out_videos() -> None:
    videos = ["1", "1", "2", "3", "3"]
    found = mean_over_clips([1, 2, 6, np.nan, 3], videos=videos)
    assert (found.interval.value, found.clips, found.videos) == (3.0, 4, 3)
    assert found.interval.low is not None
    assert found.interval.low < 3.0
    ratio = ratio_over_clips([1, 1, 2, np.nan, 2], [1, 1, 1, 1, 1], videos=videos)
    assert ratio.interval.value == 1.5
    assert mean_over_clips([np.nan] * 5, videos=videos).interval.reason == "no clip has it"


def _clips(*, correlation: float, share: float = 0.5) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(24):
        for method, alike in ((OCCLUSION, 0.05), (GRADIENTS, correlation)):
            for criterion in ("two_structures", "cystic_plate"):
                noise = float(rng.normal(scale=0.02))
                rows.append(
                    {"video": str(number // 4), "frame": number, "method": method, "criterion": criterion}
                    | {"share_anatomy": share + noise, "area_anatomy": 0.1, "correlation": alike + noise}
                    | {"deletion": -1.0 + noise, "insertion": -0.3, "deletion_random": -0.5, "insertion_random": -0.6}
                )
    return pl.DataFrame(rows)


def test_the_summary_has_enrichment_and_curves_against_random_order_by_criterion() -> None:
    found = summarise_effects(_clips(correlation=0.1))

    def row(statistic: str, criterion: str | None) -> dict[str, float]:
        of = pl.col("criterion").is_null() if criterion is None else pl.col("criterion") == criterion
        where = (pl.col("method") == OCCLUSION) & (pl.col("statistic") == statistic) & of
        return found.filter(where).to_dicts()[0]

    assert row("enrichment_anatomy", None)["value"] == pytest.approx(5.0, abs=0.1)
    less = row("deletion_less_random", "cystic_plate")
    assert less["value"] == pytest.approx(-0.5, abs=0.02)
    assert less["high"] < -0.4
    assert row("insertion_less_random", None)["value"] == pytest.approx(0.3)
    assert (row("share_anatomy", None)["clips"], row("share_anatomy", None)["videos"]) == (48, 6)
    assert unchanged_maps(found) == []


def test_a_map_that_random_weights_leave_as_it_was_is_called_by_name() -> None:
    said = unchanged_maps(summarise_effects(_clips(correlation=0.93)))
    assert len(said) == 3
    assert all(GRADIENTS in one and "hardly changes" in one and OCCLUSION not in one for one in said)
    assert any("cystic_plate" in one for one in said)
