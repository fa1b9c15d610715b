"""Scores that follow a cue and scores that do not; sentences where intervals support them alone."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from calot.criteria import CRITERIA
from calot.statistics.cue import cue_means, cue_sentences, follows_cue, pairs_ranked

CRITERION = "hepatocystic_triangle"


def _made(*, weight: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores that follow cue and label, an unrelated cue, ten videos."""
    rng = np.random.default_rng(seed)
    labels, cue = rng.random(300) < 0.3, rng.random(300) < 0.4
    scores = weight * cue + (1 - weight) * labels + 0.3 * rng.normal(size=300)
    return labels, scores, cue, np.repeat(np.arange(10), 30).astype(str)


def test_pairs_are_ranked_as_by_counting_them() -> None:
    labels = np.array([True, False, True, False, False])
    scores = np.array([0.5, 0.5, 2.0, 1.0, -1.0])
    pairs = [(a, b) for a in scores[labels] for b in scores[~labels]]
    assert pairs_ranked(labels, scores) == np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs])
    assert np.isnan(pairs_ranked(np.ones(3, dtype=bool), np.arange(3.0)))


def test_scores_that_are_the_cue_follow_it_and_scores_that_are_the_label_do_not() -> None:
    labels, scores, cue, videos = _made(weight=0.9)
    found = follows_cue(labels, scores, cue=cue, videos=videos, criterion=CRITERION)
    assert found.supported
    assert found.agreeing.value is not None
    assert found.contradicting.value is not None
    assert found.agreeing.value > 0.95
    assert found.contradicting.value < 0.15
    assert found.shown == pytest.approx(np.mean(labels == cue))
    labels, scores, cue, videos = _made(weight=0.0)
    assert not follows_cue(labels, scores, cue=cue, videos=videos, criterion=CRITERION).supported


def test_a_cue_that_never_contradicts_says_why_nothing_can_be_said() -> None:
    labels, scores, _, videos = _made(weight=0.5)
    found = follows_cue(labels, scores, cue=labels, videos=videos, criterion=CRITERION)
    assert not found.supported
    assert found.contradicting.value is None
    assert "contradicts" in (found.contradicting.reason or "")


def _clips(*, effect: float, mass: float | None) -> pl.DataFrame:
    rng = np.random.default_rng(1)
    rows = []
    for number in range(40):
        row = {"video": str(number // 4), "area": 0.01, "mass": None if mass is None else mass + 0.002 * rng.normal()}
        for criterion in CRITERIA:
            strong = effect if criterion == CRITERION else 0.05
            row |= {f"effect_{criterion}": strong + 0.02 * rng.normal(), f"elsewhere_{criterion}": 0.05}
        rows.append(row)
    return pl.DataFrame(rows, schema_overrides={"mass": pl.Float64})


def test_sentences_name_the_criterion_that_the_cue_moves_and_no_other() -> None:
    means = {n: m.row() for n, m in cue_means(_clips(effect=-2.0, mass=0.2)).items()}
    said = cue_sentences(means)
    assert len(said) == 2
    assert "20.0 times" in said[0]
    assert "C2" in said[1]
    assert "by 2.00" in said[1]


def test_nothing_is_said_of_a_run_that_ignores_it() -> None:
    means = {n: m.row() for n, m in cue_means(_clips(effect=0.0, mass=0.0095)).items()}
    assert cue_sentences(means) == ["Nothing here shows, beyond its interval, that the run uses the cue."]
    without = cue_means(_clips(effect=0.0, mass=None))
    assert without["mass"].interval.value is None
