"""What stands beside a comparison: chance, the rater ceiling, baselines, and whether both sides were tuned alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from prediction_tables import clustered
from typer.testing import CliRunner, Result

from calot.cli import statistics as commands
from calot.cli.beside_comparison import equal_budgets
from calot.statistics.ceiling import rater_ceiling
from calot.writing import write_json

app = typer.Typer()
app.command()(commands.compare)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def side(root: Path, *, name: str, model: int, settings: int) -> Path:
    """A run in the sweep of its experiment, with that many settings."""
    run = root / name / "lr_0" / "run_s0"
    replace(clustered(model=model), fingerprint=name).write(run / "predictions" / "val.parquet")
    value = {"name": name, "seed": 0, "scale": "tiny", "experiment": {"name": name}}
    (run / "experiment.json").write_text(json.dumps(value))
    tried = [{"setting": f"lr_{k}", "map_by_seed": [0.4], "mean_map": 0.4} for k in range(settings)]
    optimism = {"value": 0.01, "reason": None}
    write_json(root / name / "sweep.json", {"settings": tried, "chosen": "lr_0", "optimism": optimism})
    return run


def test_a_comparison_shows_chance_positives_and_the_ceiling_on_its_own_target(tmp_path: Path) -> None:
    runs = [side(tmp_path, name=f"e0{m}", model=m, settings=3) for m in (1, 2)]
    found = json.loads(call(*runs, "--json").stdout)
    labels = clustered().labels
    assert found["header"]["chance"] == pytest.approx(labels.mean())
    assert found["header"]["positives"]["cystic_plate"] == int(labels[:, 2].sum())
    (row,) = found["comparisons"]
    for model in (1, 2):
        ceiling = rater_ceiling(clustered(model=model)).map
        assert ceiling is not None
        beside = row["beside"][f"e0{model}"]
        assert beside["model_on_votes"] == pytest.approx(ceiling.model.value)
        assert beside["rater_ceiling"]["value"] == pytest.approx(ceiling.ceiling.value)
        assert "not computed for this run" in beside["no_trivial_baselines"]
    text = call(*runs).stdout
    assert f"chance {100 * labels.mean():.2f}" in text
    assert "On one rater's votes: the other raters" in text


@pytest.mark.parametrize(("tried", "said"), [((3, 3), "equal tuning budgets"), ((3, 7), "UNEQUAL tuning budgets")])
def test_unequal_tuning_budgets_are_said(tmp_path: Path, tried: tuple[int, int], said: str) -> None:
    runs = [side(tmp_path, name=f"e0{m}", model=m, settings=n) for m, n in zip((1, 2), tried, strict=True)]
    assert f"Settings tried by sweep: {tried[0]} and {tried[1]}: {said}." in call(*runs).stdout


def test_an_unknown_budget_is_not_called_equal(tmp_path: Path) -> None:
    tables = [clustered(model=m).write(tmp_path / f"{m}.parquet") for m in (1, 2)]
    assert "equal tuning budgets are not shown" in call(*tables).stdout
    assert "not shown" in equal_budgets({"settings_tried": 3}, {"settings_tried": None})
