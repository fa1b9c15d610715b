"""The mean of several tables: exact, in any order, and only of the same clips."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
from prediction_tables import clustered

from calot.errors import CalotError
from calot.provenance.combination import Combination, Ensemble, Mean, MemberRun, ViewMean
from calot.statistics.average import averaged, mean_logits
from calot.statistics.predictions import Predictions, load_predictions

MEANS: tuple[Mean, ...] = get_args(Mean)


def members(count: int, **changes: Any) -> tuple[MemberRun, ...]:
    return tuple(replace(MemberRun(name="e02", fingerprint=f"{n:064x}", seed=n), **changes) for n in range(count))


def ensemble(count: int, mean: Mean = "logits") -> Ensemble:
    return Ensemble(members=members(count), mean=mean)


def float32(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32).reshape(-1, 1)


@pytest.mark.parametrize("mean", MEANS)
def test_the_mean_of_one_is_that_one_bit_for_bit(mean: Mean) -> None:
    logits = float32(-0.0, 1e-38, -1e-30, 0.1, 87.5, -103.9, 1e30)
    assert mean_logits([logits], mean=mean).tobytes() == logits.tobytes()


def test_a_mean_of_logits_is_the_mean_of_logits() -> None:
    found = mean_logits([float32(1.0, -4.0), float32(2.0, 0.5)], mean="logits")
    assert found.tolist() == [[1.5], [-1.75]]


def test_a_sum_is_exact_however_its_terms_cancel() -> None:
    """In float64 (1e20 + 3) - 1e20 is 0."""
    for order in itertools.permutations([float32(1e20), float32(3.0), float32(-1e20)]):
        assert mean_logits(order, mean="logits").tolist() == [[1.0]]


def test_a_mean_of_probabilities_is_kept_as_its_logit() -> None:
    """By hand: 0.9 and 0.1 are 0.5; 0.9 and 0.5 are 0.7."""
    nine = np.log(9.0)
    found = mean_logits([float32(nine, nine), float32(-nine, 0.0)], mean="probabilities")
    assert found[:, 0] == pytest.approx([0.0, np.log(7 / 3)], abs=1e-6)


def test_saturated_scores_stay_finite_in_a_mean_of_probabilities() -> None:
    """1 - p is (e^-60 + e^-80) / 2, far below what a float32 probability can be short of 1."""
    found = mean_logits([float32(60.0, -60.0), float32(80.0, -80.0)], mean="probabilities")
    assert found[:, 0] == pytest.approx([60 + np.log(2), -60 - np.log(2)], rel=1e-6)


@pytest.mark.parametrize("mean", MEANS)
def test_the_order_of_the_members_makes_no_difference_to_the_last_bit(mean: Mean) -> None:
    rng = np.random.default_rng(0)
    tables = [rng.normal(0, 10.0**scale, (200, 3)).astype(np.float32) for scale in (-6, 0, 1, 2)]
    found = {mean_logits(order, mean=mean).tobytes() for order in itertools.permutations(tables)}
    assert len(found) == 1


def test_an_average_keeps_the_clips_and_carries_its_own_name(tmp_path: Path) -> None:
    tables = [clustered(model=n, run=n) for n in (0, 1)]
    rule = ensemble(2)
    made = averaged(tables, combination=rule, refusal="refused")
    assert np.array_equal(made.logits, mean_logits([t.logits for t in tables], mean="logits"))
    assert (made.fingerprint, made.seeds, made.passes) == (rule.fingerprint, (0,), 2)
    assert np.array_equal(made.labels, tables[0].labels)
    back = load_predictions(made.write(tmp_path / "mean.parquet"))
    assert (back.combination, back.digest, back.fingerprint) == (rule, made.digest, rule.fingerprint)
    assert load_predictions(tables[0].write(tmp_path / "one.parquet")).combination is None


OTHERS: dict[str, Callable[[Predictions], Predictions]] = {
    "manifest_hash is": lambda t: replace(t, manifest_hash="0" * 64),
    "dataset is": lambda t: replace(t, frame=t.frame.with_columns(dataset=pl.lit("theatre"))),
    "split is": lambda t: replace(t, frame=t.frame.with_columns(split=pl.lit("test"))),
    "protocol is": lambda t: replace(t, frame=t.frame.with_columns(protocol=pl.lit("all-frames"))),
    "1 rows only in the first and 0 only in the second": lambda t: replace(t, frame=t.frame[1:]),
    "label_cystic_plate differs in": lambda t: replace(
        t, frame=t.frame.with_columns(label_cystic_plate=1 - pl.col("label_cystic_plate"))
    ),
    "holds 2 seeds": lambda t: replace(
        t, frame=pl.concat([t.frame, t.frame.with_columns(seed=pl.lit(9, dtype=pl.Int64))])
    ),
}


@pytest.mark.parametrize("said", OTHERS)
def test_what_is_not_of_the_same_clips_is_refused_by_name(said: str) -> None:
    first, other = clustered(model=0), OTHERS[said](clustered(model=1, run=1))
    with pytest.raises(CalotError, match=f"ensemble refused: .*{said}"):
        averaged([first, other], combination=ensemble(2), refusal="ensemble refused")


def test_a_fingerprint_is_of_members_seeds_and_rule_and_not_of_their_order() -> None:
    rule = ensemble(3)
    others = [
        replace(rule, mean="probabilities"),
        replace(rule, members=rule.members[:2]),
        replace(rule, members=(replace(rule.members[0], seed=7), *rule.members[1:])),
        replace(rule, members=(replace(rule.members[0], fingerprint="f" * 64), *rule.members[1:])),
    ]
    assert len({rule.fingerprint, *(other.fingerprint for other in others)}) == 5
    assert replace(rule, members=rule.members[::-1]).fingerprint == rule.fingerprint


def test_passes_are_counted_through_views_and_members() -> None:
    views = ViewMean(members=members(1), views=("identity", "flip", "shift-1"), settings=("a", "b", "c"))
    rule = Ensemble(members=members(2, passes=views.passes))
    assert (views.passes, rule.passes) == (3, 6)
    assert str(views) == "test-time augmentation, 3 views (identity, flip, shift-1), mean of logits: " + (
        "3 forward passes per clip"
    )
    assert "6 forward passes per clip" in str(rule)


def test_views_of_two_seeds_are_one_treatment() -> None:
    one = ViewMean(members=members(1), views=("identity", "flip"), settings=("a", "b"))
    assert replace(one, members=members(1, seed=5)).fingerprint == one.fingerprint
    assert replace(one, settings=("a", "c")).fingerprint != one.fingerprint


@pytest.mark.parametrize("stated", [None, 3, "x", [], {"_type": "os.system"}, {"_type": "calot.criteria.PerCriterion"}])
def test_a_table_that_does_not_say_how_it_was_combined_is_refused(stated: Any) -> None:
    with pytest.raises(CalotError, match=r"t\.parquet: "):
        Combination.from_json(stated, where="t.parquet")


def test_a_file_whose_combination_is_none_of_ours_is_refused_by_its_name(tmp_path: Path) -> None:
    class Median:
        def to_json(self) -> Any:
            return ensemble(1).to_json() | {"mean": "median"}

    planted: Any = Median()
    path = replace(clustered(), combination=planted).write(tmp_path / "t.parquet")
    with pytest.raises(CalotError, match=r"t\.parquet: Ensemble\.mean"):
        load_predictions(path)
