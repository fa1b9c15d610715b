"""Values frozen on val: the sensitivity rule to the last positive, one file for all, and nothing chosen on test."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from prediction_tables import clustered

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.behaviour import behaviour_of
from calot.statistics.calibration import at_sensitivity, choose_thresholds
from calot.statistics.frozen import FrozenOnVal, freeze
from calot.statistics.summary import summarise


def test_the_threshold_is_the_highest_that_reaches_the_sensitivity() -> None:
    rng = np.random.default_rng(0)
    for target in (0.05, 0.5, 0.8, 0.9, 0.95, 1.0):
        for size in (1, 7, 10, 30, 200):
            labels = np.r_[np.ones(size), rng.integers(0, 2, 50)].astype(int)
            scores = np.round(rng.normal(size=len(labels)), 1)
            found = at_sensitivity(labels, scores=scores, target=target)

            def reached(cut: float, labels: np.ndarray = labels, scores: np.ndarray = scores) -> float:
                return float(((scores >= cut) & (labels == 1)).sum() / labels.sum())

            assert found is not None
            assert found == max(cut for cut in np.unique(scores) if reached(cut) >= target - 1e-9)


@pytest.mark.parametrize(
    ("target", "positives", "called"), [(0.9, 10, 9), (0.9, 30, 27), (0.55, 100, 55), (0.14, 50, 7), (0.91, 10, 10)]
)
def test_a_target_that_is_met_exactly_needs_not_one_positive_more(target: float, positives: int, called: int) -> None:
    scores = np.arange(positives, 0, -1.0)
    assert at_sensitivity(np.ones(positives), scores=scores, target=target) == scores[called - 1]


def test_no_positive_has_no_threshold_and_an_impossible_target_is_refused() -> None:
    assert at_sensitivity([0, 0], scores=[1.0, 2.0], target=0.9) is None
    for target in (0.0, -0.1, 1.01):
        with pytest.raises(CalotError, match="sensitivity="):
            at_sensitivity([1], scores=[1.0], target=target)


def test_sensitivity_thresholds_are_refused_on_test_as_those_of_f1_are() -> None:
    made = clustered()
    on_test = replace(made, frame=made.frame.with_columns(pl.lit("test").alias("split")))
    with pytest.raises(CalotError, match="never on test"):
        choose_thresholds(on_test, sensitivity=0.9)
    with pytest.raises(CalotError, match="never on test"):
        freeze(on_test)


def test_rates_at_the_sensitivity_are_those_of_its_threshold_with_intervals() -> None:
    made = clustered()
    fields = behaviour_of(summarise(made), frozen=freeze(made, sensitivity=0.8)).to_dict()["at_sensitivity"]
    assert fields["target"] == 0.8
    assert "at least 0.8" in fields["thresholds"]["rule"]
    for k, name in enumerate(CRITERIA):
        called = made.logits[:, k] >= fields["thresholds"]["values"][name]
        truth = made.labels[:, k] == 1
        item = fields["decisions"][name]["sensitivity"]
        assert item["value"] == pytest.approx((called & truth).sum() / truth.sum())
        assert item["low"] < item["value"] < item["high"]
        assert item["value"] >= 0.8


def test_all_values_return_from_disk_as_they_were(tmp_path: Path) -> None:
    made = freeze(clustered(videos=20), sensitivity=0.85, level=0.8)
    assert FrozenOnVal.load(made.write(tmp_path / "frozen.json")) == made
    few = freeze(clustered(videos=3))  # limits that are infinite
    assert FrozenOnVal.load(few.write(tmp_path / "few.json")) == few


@pytest.mark.parametrize(
    "wrong",
    [
        lambda f: f.pop("temperatures"),
        lambda f: f["limits"]["values"].pop("cystic_plate"),
        lambda f: f["sensitive"]["values"].update(cystic_plate="high"),
        lambda f: f.update(format=2),
        lambda f: f.update(more=1),
        lambda f: f["thresholds"]["values"].update(cystic_plate=float("inf")),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, wrong: object) -> None:
    path = freeze(clustered()).write(tmp_path / "frozen.json")
    fields = json.loads(path.read_text())
    wrong(fields)  # type: ignore[operator]
    path.write_text(json.dumps(fields))
    with pytest.raises(CalotError, match=r"frozen\.json: not a file of values frozen on val"):
        FrozenOnVal.load(path)


@pytest.mark.parametrize("part", ["thresholds", "sensitive", "temperatures", "limits"])
def test_a_file_that_says_it_was_chosen_on_test_is_refused(tmp_path: Path, part: str) -> None:
    path = freeze(clustered()).write(tmp_path / "frozen.json")
    fields = json.loads(path.read_text())
    fields[part]["split"] = "test"
    path.write_text(json.dumps(fields))
    with pytest.raises(CalotError, match="chosen on test"):
        FrozenOnVal.load(path)


def test_values_of_another_run_are_refused() -> None:
    with pytest.raises(CalotError, match="frozen on predictions of run model1"):
        behaviour_of(summarise(clustered(model=2)), frozen=freeze(clustered(model=1)))
