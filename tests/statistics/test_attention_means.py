"""Means, ratios and differences of attention, with intervals over videos, from tables whose answers are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from calot.statistics.attention import AGAINST, RANDOM_WEIGHTS, RUN, SHUFFLED, STUDY, UNIFORM, summarise_attention
from calot.statistics.jackknife import plain_interval, proportion_interval

VIDEOS = {"1": 3, "2": 1, "3": 2, "4": 2}
LAYERS, HEADS = 2, 2


def _rows(variant: str, *, seed: int, masked: tuple[str, ...] = tuple(VIDEOS)) -> pl.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    for video, clips in VIDEOS.items():
        for clip in range(clips):
            for layer in range(LAYERS):
                for head in range(1 if variant == UNIFORM else HEADS):
                    seen = video in masked
                    row: dict[str, Any] = {"variant": variant, "video": video, "frame": clip, "layer": layer}
                    row |= {"head": None if variant == UNIFORM else head, "entropy": rng.uniform(0.2, 0.9)}
                    row |= {"gap_nats": rng.uniform(0, 1), "distance_tokens": rng.uniform(1, 5)}
                    row |= {"mass_tool": rng.uniform(0, 0.5) if seen else None, "area_tool": 0.1 if seen else None}
                    rows.append(row)
    return pl.DataFrame(rows, schema_overrides={"head": pl.Int64})


def _received(*, seed: int = 0, keys: int = 6) -> pl.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    for video, clips in VIDEOS.items():
        for layer in range(LAYERS):
            maps = rng.dirichlet(np.full(keys, 0.3), size=clips).sum(axis=0)
            row = {"variant": RUN, "rotary": True, "video": video, "layer": layer, "clips": clips}
            rows.append(row | {"received": maps.tolist()})
    return pl.DataFrame(rows)


def _one(summary: pl.DataFrame, **wanted: Any) -> dict[str, Any]:
    for name, value in ({"less": None, "head": None} | wanted).items():
        summary = summary.filter(pl.col(name).is_null() if value is None else pl.col(name) == value)
    (row,) = summary.to_dicts()
    return row


def test_a_mean_is_over_clips_and_its_interval_leaves_out_one_video_after_the_other() -> None:
    rows = _rows(RUN, seed=1)
    found = _one(summarise_attention(rows, _received()), variant=RUN, statistic="entropy", layer=1, head=0)
    mine = rows.filter((pl.col("layer") == 1) & (pl.col("head") == 0))
    left_out = [mine.filter(pl.col("video") != video)["entropy"].mean() for video in VIDEOS]
    expected = proportion_interval(float(mine["entropy"].mean()), left_out=left_out)  # type: ignore[arg-type]
    for name in ("value", "low", "high"):
        assert found[name] == pytest.approx(getattr(expected, name))
    assert (found["clips"], found["videos"]) == (8, 4)


def test_the_mean_over_heads_is_that_of_all_rows_of_a_layer() -> None:
    rows = _rows(RUN, seed=1)
    summary = summarise_attention(rows, _received())
    for layer in range(LAYERS):
        mine = rows.filter(pl.col("layer") == layer)["distance_tokens"]
        assert _one(summary, variant=RUN, statistic="distance_tokens", layer=layer)["value"] == pytest.approx(
            mine.mean()
        )


def test_an_enrichment_is_all_mass_over_all_area_of_the_clips_that_have_a_mask() -> None:
    rows = _rows(RUN, seed=1, masked=("1", "3", "4"))
    found = _one(summarise_attention(rows, _received()), variant=RUN, statistic="enrichment_tool", layer=0)
    mine = rows.filter(pl.col("layer") == 0).drop_nulls("mass_tool")
    assert found["value"] == pytest.approx(mine["mass_tool"].sum() / mine["area_tool"].sum())
    left_out = [
        part["mass_tool"].sum() / part["area_tool"].sum()
        for part in (mine.filter(pl.col("video") != video) for video in ("1", "3", "4"))
    ]
    assert found["low"] == pytest.approx(plain_interval(found["value"], left_out=left_out, floor=0.0).low)
    assert (found["clips"], found["videos"]) == (7, 3)


def test_a_class_that_no_clip_shows_has_no_value_and_says_why() -> None:
    rows = _rows(RUN, seed=1).with_columns(area_tool=pl.lit(0.0), mass_tool=pl.lit(0.0))
    found = _one(summarise_attention(rows, _received()), variant=RUN, statistic="enrichment_tool", layer=0)
    assert (found["value"], found["reason"]) == (None, "no clip shows any of it")
    rows = _rows(RUN, seed=1, masked=())
    rows = rows.with_columns(pl.col("area_tool", "mass_tool").cast(pl.Float64))
    found = _one(summarise_attention(rows, _received()), variant=RUN, statistic="mass_tool", layer=0)
    assert (found["value"], found["reason"]) == (None, "no clip has a mask")


def test_a_difference_is_paired_and_tighter_than_its_sides_where_videos_move_together() -> None:
    run, noise = _rows(RUN, seed=1), _rows(AGAINST, seed=2)["entropy"]
    other = run.with_columns(variant=pl.lit(AGAINST), entropy=pl.col("entropy") - 0.05 + 0.001 * noise)
    summary = summarise_attention(pl.concat([run, other]), _received())
    found = _one(summary, variant=RUN, less=AGAINST, statistic="entropy", layer=0)
    assert found["value"] == pytest.approx(0.05, abs=0.001)
    assert found["low"] > 0.045
    assert found["high"] < 0.055
    alone = _one(summary, variant=RUN, statistic="entropy", layer=0)
    assert alone["high"] - alone["low"] > 10 * (found["high"] - found["low"])
    assert _one(summary, variant=RUN, less=AGAINST, statistic="entropy", layer=0, head=1)["value"] is not None


def test_every_figure_has_its_baselines_beside_it() -> None:
    variants = (RUN, RANDOM_WEIGHTS, SHUFFLED)
    rows = pl.concat([*(_rows(v, seed=i) for i, v in enumerate(variants)), _rows(UNIFORM, seed=9)])
    summary = summarise_attention(rows, _received())
    for statistic in ("entropy", "gap_nats", "distance_tokens", "mass_tool", "enrichment_tool"):
        for variant in (*variants, UNIFORM):
            assert _one(summary, variant=variant, statistic=statistic, layer=1)["value"] is not None
        for less in (RANDOM_WEIGHTS, SHUFFLED):
            assert _one(summary, variant=RUN, less=less, statistic=statistic, layer=1)["value"] is not None


def test_the_studys_figure_averages_maps_before_the_entropy() -> None:
    received = _received()
    found = _one(summarise_attention(_rows(RUN, seed=1), received), variant=RUN, statistic=STUDY, layer=0)
    maps = np.array(received.filter(pl.col("layer") == 0)["received"].to_list())
    mean = maps.sum(axis=0) / sum(VIDEOS.values())
    assert found["value"] == pytest.approx(-(mean * np.log(mean)).sum() / math.log(6))
    of_each = [-(m * np.log(m)).sum() / math.log(6) for m in maps / np.array([list(VIDEOS.values())]).T]
    assert found["value"] > np.mean(of_each) + 0.01, "averaging flattens"


def test_two_videos_have_no_interval_and_say_so() -> None:
    rows = _rows(RUN, seed=1).filter(pl.col("video").is_in(["1", "2"]))
    received = _received().filter(pl.col("video").is_in(["1", "2"]))
    found = _one(summarise_attention(rows, received), variant=RUN, statistic="entropy", layer=0)
    assert found["low"] is None
    assert found["reason"].startswith("2 videos: an interval over videos needs")


def test_what_changed_between_two_runs_is_averaged_over_clips() -> None:
    rows = _rows(RUN, seed=1)
    changes = rows.select("video", "frame", "layer", "head", apart=pl.col("entropy"), cka=1 - 0.1 * pl.col("gap_nats"))
    summary = summarise_attention(rows, _received(), changes=changes)
    found = _one(summary, variant=RUN, less=AGAINST, statistic="apart", layer=1, head=1)
    mine = rows.filter((pl.col("layer") == 1) & (pl.col("head") == 1))["entropy"]
    assert found["value"] == pytest.approx(mine.mean())
    assert _one(summary, variant=RUN, less=AGAINST, statistic="cka", layer=1)["value"] > 0.9
