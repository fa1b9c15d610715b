"""A result shows everything it must, and every null has a reason."""

from __future__ import annotations

import json

import polars as pl
import pytest
from prediction_tables import clustered, table

from calot.criteria import CRITERIA
from calot.statistics.calibration import choose_thresholds
from calot.statistics.predictions import Predictions
from calot.statistics.summary import summarise


def test_the_dictionary_holds_what_every_result_shows() -> None:
    made = clustered()
    found = summarise(made, thresholds=choose_thresholds(made)).to_dict()
    json.dumps(found, allow_nan=False)
    assert set(found["map"]) >= {"value", "low", "high"}
    assert list(found["ap"]) == list(CRITERIA)
    assert all(set(item) >= {"value", "low", "high", "prevalence"} for item in found["ap"].values())
    assert (found["videos"], found["frames"]) == (20, 800)
    assert (found["protocol"], found["split"], found["manifest_hash"]) == ("keyframes", "val", "m" * 64)
    assert found["seeds"] == [0]
    assert found["interval"]["unit"] == "video"
    held = found["interval"]["measured_coverage"]
    assert held["map"]["positive_videos"] == min(found["positive_videos"].values())
    assert all(0.85 < item["coverage"] < 0.99 for item in held.values())
    assert found["positives"] == {name: int(made.labels[:, k].sum()) for k, name in enumerate(CRITERIA)}
    assert set(found) >= {"brier", "brier_soft", "brier_skill_macro", "ece", "calibration", "decisions"}
    assert found["decisions"]["cystic_plate"]["sensitivity"] > 0


def test_a_criterion_without_positives_is_null_with_a_reason() -> None:
    labels = [[1, 0, 1], [0, 0, 0]] * 4
    logits = [[float(i), 1.0, float(-i)] for i in range(8)]
    made = Predictions(frame=table(labels, logits=logits, videos=list("aabbccdd")))
    found = summarise(made).to_dict()
    item = found["ap"]["hepatocystic_triangle"]
    assert item == {"value": None, "low": None, "high": None, "prevalence": 0.0, "reason": "no positive label"}
    assert found["map"]["value"] is None
    assert found["map"]["reason"] == "no positive label for hepatocystic_triangle"
    assert found["map_over_defined"]["criteria"] == ["two_structures", "cystic_plate"]
    assert found["map_over_defined"]["value"] == pytest.approx(
        (found["ap"]["two_structures"]["value"] + found["ap"]["cystic_plate"]["value"]) / 2
    )
    assert found["brier"]["hepatocystic_triangle"]["skill"] is None
    assert found["calibration"]["hepatocystic_triangle"]["reason"] == "no positive label"
    json.dumps(found, allow_nan=False)


def test_a_table_without_rater_means_says_so() -> None:
    made = clustered()
    hard = Predictions(frame=made.frame.drop([f"soft_{name}" for name in CRITERIA]))
    found = summarise(hard).to_dict()["brier_soft"]["cystic_plate"]
    assert found["value"] is None
    assert found["reason"] == "the table holds no rater means"


def test_seeds_are_listed_one_by_one_and_their_spread_stands_apart() -> None:
    parts = [clustered(run=run) for run in range(3)]
    both = Predictions(frame=pl.concat([part.frame for part in parts]))
    found = summarise(both).to_dict()
    alone = [summarise(part).to_dict()["map"]["value"] for part in parts]
    assert [row["map"] for row in found["per_seed"]] == pytest.approx(alone)
    assert found["map"]["value"] == pytest.approx(sum(alone) / 3)
    assert found["seed_deviation"] > 0
    assert found["frames"] == 800
