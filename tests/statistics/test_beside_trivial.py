"""A result beside trivial baselines: paired by video, said in one sentence, undefined where it cannot be known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from prediction_tables import clustered

from calot.statistics.compare import compare
from calot.statistics.intervals import video_intervals
from calot.statistics.predictions import Predictions
from calot.statistics.trivial import NO_RUN, BesideTrivial, Trivial, TrivialTables, beside_trivial, held_to


def baseline(name: str, predictions: Predictions, **undefined: str) -> Trivial:
    return Trivial(name=name, title=name, settings="", undefined=undefined, predictions=predictions)


def tables(*baselines: Trivial, why: str | None = None, manifest: str = "m" * 64) -> TrivialTables:
    return TrivialTables(
        split="val", protocol="keyframes", manifest_hash=manifest, clips=9, videos=3, undefined=why, baselines=baselines
    )


def test_the_difference_is_the_one_that_compare_finds_for_the_same_two_tables() -> None:
    run, other = clustered(gain=1.0, model=1), clustered(gain=0.7, model=2)
    found = held_to(run, tables(baseline("other", other))).differences["other"]
    known = compare(run, other, replicates=100).map
    for name in ("value", "low", "high", "standard_error", "coverage"):
        assert getattr(found, name) == pytest.approx(getattr(known, name)), name


def test_the_sentence_says_where_the_run_stands_against_the_best_of_them() -> None:
    weak, strong = baseline("weak", clustered(gain=0.0, model=3)), baseline("strong", clustered(gain=1.5, model=4))
    cases = {"above": (4.0, "This run, at"), "level": (1.5, "NOT shown to be above"), "below": (0.0, "is BELOW")}
    for standing, (gain, words) in cases.items():
        found = held_to(clustered(gain=gain, model=1), tables(weak, strong))
        assert (found.standing, found.best) == (standing, strong)
        assert words in found.verdict()
        assert "paired by video" in found.verdict()
        assert f"weak {100 * (weak.intervals.map.value or 0):.1f} (" in found.sentence()
        assert "held the truth in" in found.held()


def test_a_criterion_that_could_not_be_fitted_leaves_the_baseline_without_map() -> None:
    why = "train has no positive label of it"
    part = baseline("part", clustered(model=2), cystic_plate=why)
    assert part.intervals.ap["cystic_plate"].reason == why
    assert part.intervals.ap["two_structures"].value is not None
    assert part.intervals.map.reason == f"C3 cystic plate: {why}"
    found = held_to(clustered(model=1), tables(part))
    assert (found.best, found.standing) == (None, "unknown")
    assert found.verdict() == "This run cannot be held to them: none of them is defined."
    assert found.to_dict()["baselines"][0]["run_minus_baseline"]["reason"] == part.intervals.map.reason


@pytest.mark.parametrize(("videos", "reason"), [(2, "2 videos"), (1, "1 videos")])
def test_too_few_videos_leave_a_difference_without_an_interval(videos: int, reason: str) -> None:
    run, other = clustered(videos=videos, model=1, seed=4), clustered(videos=videos, model=2, seed=4)
    found = held_to(run, tables(baseline("other", other)))
    assert found.standing == "unknown"
    assert f"no interval: {reason}" in found.verdict() or "no positive" in found.verdict() + str(found.differences)


@pytest.mark.parametrize(("kept", "reason"), [(0, "no positive label"), (1, "lie in one video")])
def test_positives_in_one_video_alone_and_none_at_all_are_reasons(kept: int, reason: str) -> None:
    label = "label_two_structures"

    def with_positives(model: int) -> Predictions:
        made = clustered(model=model)
        held = made.frame.filter(pl.col(label) == 1)["video"].unique().sort()[:kept]
        turned = pl.when(pl.col("video").is_in(held.to_list())).then(pl.col(label)).otherwise(0).alias(label)
        return replace(made, frame=made.frame.with_columns(turned))

    found = held_to(with_positives(1), tables(baseline("other", with_positives(2))))
    assert found.differences["other"].low is None
    assert reason in str(found.differences["other"].reason)
    assert found.standing == "unknown"


def test_baselines_of_other_frames_or_another_manifest_are_not_compared() -> None:
    run, other = clustered(model=1), clustered(model=2)
    fewer = replace(other, frame=other.frame.head(other.frame.height - 1))
    for made in (tables(baseline("a", fewer)), tables(baseline("a", other), manifest="n" * 64), tables(why="no train")):
        found = held_to(run, made)
        assert (found.baselines, found.standing) == ((), "unknown")
        assert found.reason
    assert "scored on other frames" in str(held_to(run, tables(baseline("a", fewer))).reason)
    assert "another manifest hash (nnnnnnnnnnnn" in str(
        held_to(run, tables(baseline("a", other), manifest="n" * 64)).reason
    )
    assert held_to(run, tables(why="no train")).sentence() == "Undefined: no train."


def test_a_table_of_no_run_says_so() -> None:
    found = beside_trivial(clustered(), run=None)
    assert (found.reason, found.to_dict()["baselines"]) == (NO_RUN, [])
    assert isinstance(found, BesideTrivial)


def test_intervals_of_a_baseline_are_those_of_any_table() -> None:
    table = clustered(model=5)
    assert baseline("a", table).intervals == video_intervals(table)
    assert np.isfinite(table.logits).all()
