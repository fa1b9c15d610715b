"""The two commands as a person and as a program meet them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import typer
from prediction_tables import clustered
from typer.testing import CliRunner, Result

from calot.cli import statistics as commands
from calot.errors import CalotError

app = typer.Typer()
app.command()(commands.metrics)
app.command()(commands.compare)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def run_folder(root: Path, *, name: str, seed: int, model: int, lr: float = 1e-3) -> Path:
    """A run's folder with val predictions."""
    folder = root / name / f"run_s{seed}_{lr}"
    made = clustered(model=model, run=seed)
    replace(made, fingerprint=f"{name}{seed}{lr}").write(folder / "predictions" / "val.parquet")
    value = {"name": name, "seed": seed, "scale": "tiny", "experiment": {"name": name, "seed": seed, "lr": lr}}
    (folder / "experiment.json").write_text(json.dumps(value))
    return folder


def test_metrics_for_a_person_names_protocol_coverage_and_the_next_command(tmp_path: Path) -> None:
    clustered().frame.write_csv(tmp_path / "p.csv")
    found = call("metrics", tmp_path / "p.csv")
    assert found.exit_code == 0
    for text in ("protocol keyframes", "C2 hepatocystic triangle", "measured coverage at 20 videos", "optimistic"):
        assert text in found.stdout
    assert "Next: calot compare" in found.stdout.splitlines()[-1]


def test_metrics_for_a_program_prints_json_only(tmp_path: Path) -> None:
    run = run_folder(tmp_path, name="e02", seed=0, model=1)
    fields = json.loads(call("metrics", run, "--json").stdout)
    assert fields["videos"] == 20
    assert len(fields["per_video"]["rows"]) == 20
    assert fields["test_openings"] is None


def test_test_predictions_take_the_thresholds_of_val_and_show_openings(tmp_path: Path) -> None:
    run = run_folder(tmp_path, name="e02", seed=0, model=1)
    made = clustered(seed=5)
    on_test = made.frame.with_columns(pl.lit("test").alias("split"))
    replace(made, frame=on_test).write(run / "predictions" / "test.parquet")
    fields = json.loads(call("metrics", run, "--split", "test", "--results", tmp_path, "--json").stdout)
    assert fields["test_openings"] == 0
    assert fields["thresholds"]["split"] == "val"
    (run / "predictions" / "val.parquet").unlink()
    alone = json.loads(call("metrics", run, "--split", "test", "--results", tmp_path, "--json").stdout)
    assert alone["thresholds"] is None
    assert "decisions are not scored" in alone["notes"][-1]


def test_compare_groups_seeds_of_one_experiment(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path, name="e02", seed=s, model=1) for s in (0, 1)]
    runs += [run_folder(tmp_path, name="e03", seed=s, model=2) for s in (0, 1)]
    (found,) = json.loads(call("compare", *runs, "--json").stdout)["comparisons"]
    assert (found["a"]["name"], found["a"]["seeds"]) == ("e02", [0, 1])
    assert (found["b"]["name"], found["b"]["seeds"]) == ("e03", [0, 1])
    assert found["about"] == "these checkpoints"
    text = call("compare", *runs).stdout
    assert "seed 0:" in text
    assert "This is about these checkpoints" in text
    assert "Next: calot report" in text.splitlines()[-1]


def test_an_override_makes_another_side_of_the_same_name(tmp_path: Path) -> None:
    runs = [
        run_folder(tmp_path, name="e02", seed=0, model=1),
        run_folder(tmp_path, name="e02", seed=0, model=2, lr=1e-2),
    ]
    (found,) = json.loads(call("compare", *runs, "--json").stdout)["comparisons"]
    assert found["a"]["name"] == "e02"
    assert found["b"]["name"].endswith("run_s0_0.01")


def test_three_experiments_are_compared_with_the_first_and_corrected(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path, name=f"e0{m}", seed=0, model=m) for m in (2, 3, 4)]
    rows = json.loads(call("compare", *runs, "--json").stdout)["comparisons"]
    assert [(row["a"]["name"], row["b"]["name"]) for row in rows] == [("e02", "e03"), ("e02", "e04")]
    assert all(row["map_p_holm_over_comparisons"] >= row["map"]["p"] for row in rows)


def test_equal_predictions_end_with_exit_code_1(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path, name="e02", seed=0, model=1), run_folder(tmp_path, name="e06", seed=0, model=1)]
    found = call("compare", *runs)
    assert found.exit_code == 1
    assert "INVALID: e02 and e06 hold equal predictions" in found.stdout


def test_seeds_of_one_experiment_alone_are_no_comparison(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path, name="e02", seed=s, model=1) for s in (0, 1)]
    found = call("compare", *runs)
    assert isinstance(found.exception, CalotError)
    assert "2 runs of one experiment (e02)" in str(found.exception)


def test_a_run_without_predictions_names_what_it_has(tmp_path: Path) -> None:
    run = run_folder(tmp_path, name="e02", seed=0, model=1)
    found = call("metrics", run, "--split", "test")
    assert isinstance(found.exception, CalotError)
    with pytest.raises(CalotError, match=r"no predictions/test\.parquet; have \['val'\]"):
        raise found.exception
