"""Comparisons: paired, refused where they would lie, worded by what they are about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from prediction_tables import clustered
from scipy.stats import kstest

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.provenance.treatment import NO_RECEIPT, Treatment
from calot.statistics.compare import compare
from calot.statistics.permutation import holm, swap_seeds, swap_videos
from calot.statistics.predictions import Predictions


def test_a_clear_improvement_is_called_and_is_about_these_checkpoints() -> None:
    found = compare(clustered(gain=3.0, model=1), clustered(gain=0.5, model=2), replicates=400)
    assert found.outcome == "higher"
    assert found.about == "these checkpoints"
    assert "not about the treatment" in found.verdict
    assert found.verdict.startswith("A is better than B (+")
    assert found.map.seed_error is None
    assert found.map.minimum_detectable > found.map.high - found.map.value  # type: ignore[operator]


def test_five_seeds_a_side_are_about_the_treatment_and_list_every_seed() -> None:
    a = [clustered(gain=2.0, model=1, run=run) for run in range(5)]
    b = [clustered(gain=1.0, model=2, run=run) for run in range(5)]
    found = compare(a, b, replicates=200, names=("new", "old"))
    assert found.about == "the treatment"
    assert found.outcome == "higher"
    assert found.a.seeds == (0, 1, 2, 3, 4)
    assert len(set(found.a.map)) == 5
    assert found.map.seed_error is not None
    assert found.map.video_error is not None
    assert found.map.p is None or found.map.p >= 2 / 252  # shown where its own false rate holds


def test_four_seeds_on_one_side_do_not_make_a_verdict_about_the_treatment() -> None:
    a = [clustered(model=1, run=run) for run in range(5)]
    b = [clustered(model=2, run=run) for run in range(4)]
    assert compare(a, b, replicates=100).about == "these checkpoints"


@pytest.mark.parametrize("runs", [1, 5])
def test_compare_is_antisymmetric(runs: int) -> None:
    a = [clustered(gain=1.8, model=1, run=run) for run in range(runs)]
    b = [clustered(gain=1.5, model=2, run=run) for run in range(runs)]
    there, back = compare(a, b, replicates=200), compare(b, a, replicates=200)
    for one, other in zip((there.map, *there.ap.values()), (back.map, *back.ap.values()), strict=True):
        assert one.value == pytest.approx(-other.value, abs=1e-15)  # type: ignore[operator]
        assert one.low == pytest.approx(-other.high, abs=1e-12)  # type: ignore[operator]
        assert one.p == other.p
        assert one.p_holm == other.p_holm
    assert {there.outcome, back.outcome} in ({"higher", "lower"}, {"undecided"}, {"equivalent"}, {"disagree"})


def test_equal_predictions_under_another_treatment_are_invalid() -> None:
    made = clustered()
    found = compare(made, replace(made, fingerprint="another"), names=("e06", "e02"))
    assert found.outcome == "invalid"
    assert found.verdict.startswith("INVALID: e06 and e02 hold equal predictions, bit for bit, under another treatment")


def test_equal_predictions_are_withheld_whatever_the_receipts_say() -> None:
    verified = Treatment(status="verified")
    made = clustered()
    found = compare(made, replace(made, fingerprint="another"), treatments=(verified, verified))
    assert found.outcome == "invalid"
    for item in (found.map, *found.ap.values()):
        assert (item.value, item.low, item.p) == (None, None, None)
        assert (item.reason or "").startswith("INVALID: A and B hold equal predictions")


def test_a_side_whose_receipt_failed_has_no_numbers_and_the_other_keeps_its_own() -> None:
    wrong = Treatment(status="invalid", why="receipt check dose failed in e06/s0")
    sides = (Treatment(status="verified"), wrong)
    found = compare(clustered(gain=3.0, model=1), clustered(model=2), names=("e02", "e06"), treatments=sides)
    assert (found.outcome, found.verdict) == ("invalid", "INVALID: e06: receipt check dose failed in e06/s0")
    assert found.a.mean is not None
    assert (found.b.mean, found.b.map, found.b.deviation) == (None, (None,), None)
    assert set(found.b.ap.values()) == {(None,)}
    assert (found.map.value, found.map.reason) == (None, found.verdict)
    assert set(found.ap) == set(CRITERIA)


def test_without_proof_the_numbers_stand_and_the_verdict_says_of_which_side() -> None:
    a, b = clustered(gain=3.0, model=1), clustered(gain=0.5, model=2)
    verified = Treatment(status="verified")
    plain = compare(a, b, replicates=100, treatments=(verified, verified))
    assert "unverified" not in plain.verdict
    one = compare(a, b, replicates=100, treatments=(verified, NO_RECEIPT))
    assert one.verdict == f"{plain.verdict} Treatment unverified: B."
    assert compare(a, b, replicates=100).verdict == f"{plain.verdict} Treatment unverified: A and B."
    assert (one.map, one.ap) == (plain.map, plain.ap)
    assert one.to_dict()["b"]["treatment"] == {"status": "unverified", "why": "no receipt"}


def test_a_run_against_itself_is_no_comparison() -> None:
    found = compare(clustered(), clustered())
    assert "same run" in (found.invalid or "")


def test_equal_predictions_under_two_seeds_are_invalid() -> None:
    first = clustered(run=0)
    copy = replace(first, frame=first.frame.with_columns(pl.lit(1).alias("seed")))
    found = compare([first, copy], clustered(model=3))
    assert "seeds 0 and 1 of A hold equal predictions" in (found.invalid or "")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"manifest_hash": "n" * 64}, "manifest_hash is"),
        ({"protocol": "all-frames"}, "protocol is 'keyframes'"),
        ({"split": "test"}, "split is"),
        ({"dataset": "endoscapes"}, "dataset is"),
    ],
)
def test_another_manifest_protocol_split_or_data_set_is_refused(change: dict[str, str], match: str) -> None:
    other = clustered(model=1)
    if "manifest_hash" in change:
        other = replace(other, **change)
    else:
        other = replace(other, frame=other.frame.with_columns(pl.lit(v).alias(k) for k, v in change.items()))
    with pytest.raises(CalotError, match=f"compare refused: {match}"):
        compare(clustered(), other)


def test_other_frames_and_other_labels_are_refused_by_name() -> None:
    other = clustered(model=1)
    with pytest.raises(
        CalotError, match=r"1 rows only in the first and 0 only in the second, such " r"as video '0' frame 0"
    ):
        compare(clustered(), replace(other, frame=other.frame[1:]))
    flipped = other.frame.with_columns(label_cystic_plate=1 - pl.col("label_cystic_plate"))
    with pytest.raises(CalotError, match=r"label_cystic_plate differs in 800 rows"):
        compare(clustered(), replace(other, frame=flipped))


def test_a_seed_twice_on_a_side_is_refused() -> None:
    with pytest.raises(CalotError, match="seed 0 appears twice"):
        compare([clustered(), clustered(model=1)], clustered(model=2))


def test_a_criterion_without_positives_leaves_the_others_compared() -> None:
    def without(p: Predictions) -> Predictions:
        return replace(p, frame=p.frame.with_columns(label_cystic_plate=pl.lit(0)))

    found = compare(without(clustered(model=1)), without(clustered(model=2)), replicates=100)
    assert found.ap["cystic_plate"].reason == "no positive label"
    assert found.ap["cystic_plate"].p_holm is None
    assert found.ap["two_structures"].low is not None
    assert found.outcome == "undefined"
    assert found.map.value is None


def test_holm_equals_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, None, 0.02]) == [0.5, None, 0.04]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_dealing_seeds_anew_is_exact() -> None:
    p = swap_seeds(np.array([[3.0], [4.0], [5.0]]), np.array([[0.0], [1.0], [2.0]]))
    assert p == pytest.approx([2 / 20])  # the deal seen and its mirror image, of 6 choose 3


def test_swapping_no_difference_gives_p_one() -> None:
    made = clustered()
    assert swap_videos([made], [made], replicates=50).tolist() == [1.0] * 4


def test_the_permutation_p_is_roughly_uniform_where_there_is_no_difference() -> None:
    p = [
        swap_videos([clustered(seed=s, model=2 * s)], [clustered(seed=s, model=2 * s + 1)], replicates=99, seed=s)[-1]
        for s in range(100)
    ]
    assert kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) <= 0.12


def test_names_of_criteria_stay_in_order() -> None:
    assert tuple(compare(clustered(model=1), clustered(model=2), replicates=50).ap) == CRITERIA
