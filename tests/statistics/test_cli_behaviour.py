"""What `calot metrics` says beyond scores: as text in 80 columns, as JSON, and with values frozen in a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from prediction_tables import clustered
from typer.testing import CliRunner, Result

from calot.cli import statistics as commands
from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.frozen import FrozenOnVal, freeze
from calot.statistics.predictions import Predictions

app = typer.Typer()
app.command()(commands.metrics)


def call(*arguments: object, columns: int = 80) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": str(columns)})


def fields(*arguments: object) -> dict[str, Any]:
    done = call(*arguments, "--json")
    assert done.exception is None, done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def on_test(made: Predictions) -> Predictions:
    return replace(made, frame=made.frame.with_columns(pl.lit("test").alias("split")))


@pytest.fixture
def val(tmp_path: Path) -> Path:
    return clustered(videos=30, frames=30).write(tmp_path / "val.parquet")


def test_every_section_stands_in_the_text_with_the_numbers_of_json(val: Path) -> None:
    text, found = call(val).stdout, fields(val)
    for said in (
        "Temperature scaling, each video with the temperature fitted on the other videos:",
        "Decisions at the highest cut with a sensitivity of 0.9 on val:",
        "Prediction sets at 90%, each video with the limit of the other videos:",
        "Guaranteed by 30 calibration videos: 88.4%:",
        "Subgroups: AP in points, minus the rest's; chance and videos with a positive:",
        "No subgroups by brightness or sharpness: the data set of this table is not on this disk",
        "Calibration over the operation: mean forecast minus observed share, by fifth:",
    ):
        assert said in text
    for name in CRITERIA:
        scaled = found["temperature_scaling"]["criteria"][name]
        for item in (
            scaled["after"]["brier"],
            scaled["brier_change"],
            found["at_sensitivity"]["decisions"][name]["specificity"],
            found["prediction_sets"]["criteria"][name]["coverage"],
            found["calibration_drift"]["criteria"][name]["parts"][4],
        ):
            assert f"{item['value'] + 0.0:.3f}" in text
            assert f"({item['low'] + 0.0:.2f} to {item['high'] + 0.0:.2f})".replace("-0.00", "0.00") in text
    part = next(p for p in found["subgroups"]["found"] if p["name"] == "last third")["criteria"]["cystic_plate"]
    assert f"{100 * part['ap']['value']:.1f} ({100 * part['ap']['low']:.0f} to {100 * part['ap']['high']:.0f})" in text
    assert f"{100 * part['difference']['value']:+.1f} (" in text


def test_the_ceiling_stands_beside_each_ap(val: Path) -> None:
    text, ceiling = call(val).stdout, fields(val)["rater_ceiling"]
    (row,) = [line for line in text.splitlines() if line.startswith("C3 cystic plate ")]
    (total,) = [line for line in text.splitlines() if line.startswith("mAP  ")]
    for line, item in ((row, ceiling["ap"]["cystic_plate"]), (total, ceiling["map"])):
        assert line.split()[-2:] == [f"{100 * item[key]['value']:.1f}" for key in ("ceiling", "model")]
        assert len(line) <= 80


def test_no_table_is_wider_than_80_columns(val: Path) -> None:
    lines = call(val).stdout.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("Temperature scaling"))
    tables = [line.rstrip() for line in lines[start:] if "  " in line.strip()]
    assert len(tables) > 60
    assert [line for line in tables if len(line) > 80] == []


def test_targets_are_asked_for_by_name(val: Path) -> None:
    found = fields(val, "--sensitivity", 0.7, "--coverage", 0.8)
    assert (found["at_sensitivity"]["target"], found["prediction_sets"]["level"]) == (0.7, 0.8)
    for name in CRITERIA:
        assert 0.7 <= found["at_sensitivity"]["decisions"][name]["sensitivity"]["value"] < 0.75
        assert 0.7 < found["prediction_sets"]["criteria"][name]["coverage"]["value"] < 0.9
    for wrong in (("--sensitivity", 1.2), ("--coverage", 1.0)):
        assert isinstance(call(val, *wrong).exception, CalotError)


def test_all_three_held_for_some_seconds(val: Path) -> None:
    assert "All three criteria held, by operation:" in call(val).stdout
    assert "All three criteria held for 2 s, by operation:" in call(val, "--held", 2).stdout
    counts = [
        sum(row["called"] for row in fields(val, "--held", seconds)["per_video"]["rows"]) for seconds in (0, 1000)
    ]
    assert counts[0] > counts[1] == 0


def test_test_predictions_take_everything_of_val(val: Path, tmp_path: Path) -> None:
    on_test(clustered(videos=30, frames=30, seed=5)).write(tmp_path / "test.parquet")
    found = fields(tmp_path / "test.parquet", "--results", tmp_path)
    frozen = freeze(clustered(videos=30, frames=30))
    assert found["at_sensitivity"]["thresholds"]["values"] == frozen.sensitive.values
    assert found["temperature_scaling"]["fitted"]["values"] == frozen.temperatures.values
    assert found["temperature_scaling"]["applied"] == "with the temperatures frozen on val"
    assert found["prediction_sets"]["applied"] == "with the limits frozen on val"
    assert found["prediction_sets"]["criteria"]["cystic_plate"]["limit"] == frozen.limits.values["cystic_plate"]


def test_a_file_of_frozen_values_serves_a_test_table_elsewhere(val: Path, tmp_path: Path) -> None:
    fields(val, "--freeze", tmp_path / "frozen.json", "--sensitivity", 0.8)
    made = FrozenOnVal.load(tmp_path / "frozen.json")
    alone = on_test(clustered(videos=30, frames=30, seed=5)).write(tmp_path / "elsewhere" / "theirs.parquet")
    bare = fields(alone, "--results", tmp_path)
    assert bare["temperature_scaling"]["fitted"] is None
    assert "--frozen" in bare["temperature_scaling"]["reason"]
    assert bare["prediction_sets"]["criteria"] == {}
    assert "Prediction sets: no limits frozen on val" in call(alone, "--results", tmp_path).stdout
    found = fields(alone, "--frozen", tmp_path / "frozen.json", "--results", tmp_path)
    assert found["thresholds"]["values"] == made.thresholds.values
    assert found["at_sensitivity"]["target"] == 0.8
    assert str(tmp_path / "frozen.json") in found["thresholds_source"]
    clash = call(alone, "--frozen", tmp_path / "frozen.json", "--sensitivity", 0.8)
    assert "leave out --sensitivity" in str(clash.exception)


def test_nothing_is_frozen_on_test_and_nothing_of_another_run_is_taken(val: Path, tmp_path: Path) -> None:
    table = on_test(clustered(videos=30, frames=30, seed=5)).write(tmp_path / "test.parquet")
    refused = call(table, "--freeze", tmp_path / "no.json", "--results", tmp_path)
    assert isinstance(refused.exception, CalotError)
    assert "frozen on val predictions" in str(refused.exception)
    assert not (tmp_path / "no.json").exists()
    call(val, "--freeze", tmp_path / "frozen.json")
    other = clustered(videos=30, frames=30, model=3).write(tmp_path / "other.parquet")
    assert "run model0" in str(call(other, "--frozen", tmp_path / "frozen.json").exception)


def test_a_table_without_labels_has_every_new_key_as_null(val: Path, tmp_path: Path) -> None:
    made = clustered()
    bare = made.frame.drop([f"label_{name}" for name in CRITERIA]).drop([f"soft_{name}" for name in CRITERIA])
    bare.write_csv(tmp_path / "bare.csv")
    done = call(tmp_path / "bare.csv", "--json")
    assert done.exit_code == 2
    found = json.loads(done.stdout)
    for name in ("temperature_scaling", "at_sensitivity", "prediction_sets", "subgroups", "calibration_drift"):
        assert found[name] is None
