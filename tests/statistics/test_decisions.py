"""What a study's document may say of two treatments: each rule on made-up runs whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from prediction_tables import clustered

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.provenance.treatment import Treatment
from calot.statistics.decisions import RunOfSide, SideOfStudy, decide, kind_of, require_one_protocol
from calot.statistics.outcome import PairedDifference
from calot.statistics.predictions import Predictions

PROVEN, FAILED = Treatment(status="verified"), Treatment(status="invalid", why="receipt check dose failed")


def side(name: str, *, model: int, gain: float, seeds: int = 5, failed: tuple[int, ...] = ()) -> SideOfStudy:
    """Seeds of one treatment, whose labels' signal is `gain`."""
    runs = [
        RunOfSide(
            seed=seed,
            table=clustered(videos=24, model=model, run=seed, gain=gain),
            treatment=FAILED if seed in failed else PROVEN,
        )
        for seed in range(seeds)
    ]
    return SideOfStudy(name=name, runs=runs)


def shifted(table: Predictions, *, model: int) -> Predictions:
    """Nearly the same scores under another treatment."""
    moved = table.frame.with_columns(
        (pl.col(f"logit_{c}") + 1e-2 * ((pl.int_range(pl.len()) * 7 + k) % 5)).cast(pl.Float32).alias(f"logit_{c}")
        for k, c in enumerate(CRITERIA)
    )
    return replace(table, frame=moved, fingerprint=f"model{model}")


def test_a_large_difference_is_called_and_is_about_the_treatment() -> None:
    found = decide(side("good", model=1, gain=3.0), side("base", model=2, gain=1.0))
    assert (found.kind, found.called) == ("better", "better")
    assert "good is better than base" in found.words
    assert "about the treatment" in found.words
    assert "detects" in found.words
    assert decide(side("base", model=2, gain=1.0), side("good", model=1, gain=3.0)).kind == "worse"


def test_equal_treatments_are_no_evidence_of_a_difference_and_never_the_same() -> None:
    found = decide(side("one", model=3, gain=1.5), side("other", model=4, gain=1.5))
    assert found.kind == "no evidence"
    assert found.called == "no evidence of a difference"
    assert found.words.startswith("No evidence of a difference between one and other, and none is excluded")
    assert not {"same", "equal", "identical"} & set(found.words.lower().replace(",", "").split())


def test_a_difference_inside_the_smallest_effect_is_said_to_be_less_than_it() -> None:
    one = side("one", model=5, gain=1.5)
    other = SideOfStudy(name="other", runs=[replace(r, table=shifted(r.table, model=6)) for r in one.runs])
    found = decide(one, other)
    assert (found.kind, found.called) == ("within", "differs by less than 2 points")


def test_with_fewer_than_five_seeds_the_words_are_about_these_checkpoints() -> None:
    found = decide(side("good", model=1, gain=3.0, seeds=4), side("base", model=2, gain=1.0))
    assert found.called == "better (these checkpoints)"
    assert "about these checkpoints, not about the treatment" in found.words


def test_a_seed_whose_receipt_failed_is_left_out_and_named_and_no_longer_counts() -> None:
    found = decide(side("good", model=1, gain=3.0, failed=(3,)), side("base", model=2, gain=1.0))
    assert found.comparison is not None
    assert found.comparison.a.seeds == (0, 1, 2, 4)
    assert found.called == "better (these checkpoints)"
    assert found.notes == ("good seed 3 left out: receipt check dose failed",)


def test_where_every_receipt_failed_there_is_no_number() -> None:
    found = decide(side("good", model=1, gain=3.0, failed=(0, 1, 2, 3, 4)), side("base", model=2, gain=1.0))
    assert (found.kind, found.called, found.comparison) == ("invalid", "INVALID", None)
    assert "receipt check dose failed" in found.words


def test_equal_predictions_under_another_treatment_are_invalid() -> None:
    base = side("base", model=2, gain=1.0)
    same = [replace(run, table=replace(run.table, fingerprint="other")) for run in base.runs]
    found = decide(SideOfStudy(name="weighted", runs=same), base)
    assert found.kind == "invalid"
    assert "took no effect" in found.words


def test_what_was_not_run_or_is_not_finished_is_said_by_name() -> None:
    base = side("base", model=2, gain=1.0)
    found = decide(SideOfStudy(name="e13", missing=["s0 (waiting)"]), base)
    assert (found.kind, found.words) == ("not run", "not run: e13 has no finished run.")
    part = decide(replace(side("good", model=1, gain=3.0, seeds=3), missing=["s3", "s4 (died)"]), base)
    assert part.notes == ("good: s3, s4 (died) not finished",)


def test_two_protocols_are_refused() -> None:
    frames = {"s0": ("a" * 64, "keyframes"), "s1": ("a" * 64, "all-frames")}
    with pytest.raises(CalotError, match=r"2 different sets of frames .*keyframes.*s0; all-frames.*s1"):
        require_one_protocol(frames)
    require_one_protocol({"s0": ("a" * 64, "keyframes"), "s1": ("a" * 64, "keyframes")})
    other = side("good", model=1, gain=3.0)
    moved = [replace(run, table=replace(run.table, manifest_hash="n" * 64)) for run in other.runs]
    with pytest.raises(CalotError, match="compare refused"):
        decide(SideOfStudy(name="good", runs=moved), side("base", model=2, gain=1.0))


@pytest.mark.parametrize(
    ("low", "high", "p", "kind"),
    [
        (0.01, 0.05, 0.01, "better"),
        (-0.05, -0.01, None, "worse"),
        (-0.01, 0.05, 0.4, "no evidence"),
        (0.01, 0.05, 0.2, "no evidence"),
        (-0.01, 0.015, 0.9, "within"),
        (None, None, None, "undefined"),
    ],
)
def test_the_words_follow_from_the_interval(low: float | None, high: float | None, p: float | None, kind: str) -> None:
    value = None if low is None or high is None else (low + high) / 2
    assert kind_of(PairedDifference(value=value, low=low, high=high, p=p)) == kind
