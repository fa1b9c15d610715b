"""A student's labels are what its teachers gave and its raters said, clip by clip, and its run is an ordinary one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from command_line import calot
from run_requests import requested, trained

from calot.criteria import CRITERIA
from calot.data.teaching import TAUGHT, TaughtLabel, taught_of
from calot.deploy.distill import teach
from calot.errors import CalotError
from calot.pipeline import predict_run
from calot.progress import Ui
from calot.provenance.custody import require_sealed, seal
from calot.provenance.receipt import Receipt
from calot.receipts.dose import dose_check
from calot.receipts.probe import probe_data
from calot.run.data import OpenData
from calot.statistics.predictions import load_predictions


@pytest.fixture(scope="module")
def teachers(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two frozen probes, one epoch each."""
    root = tmp_path_factory.mktemp("teachers")
    made = []
    for seed in (0, 1):
        request = requested(phantom, root / f"s{seed}", "e02_frozen_probe", changes=("train.epochs=1",), seed=seed)
        made.append(trained(request))
        seal(made[-1])
    return made


@pytest.fixture(scope="module")
def taught(teachers: list[Path], phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    return teach(teachers, data=phantom, protocol="keyframes", folder=folder, ui=Ui())


def test_targets_are_the_mean_probability_of_the_runs(
    teachers: list[Path], taught: Path, phantom: Path, tmp_path: Path
) -> None:
    wanted = []
    for run in teachers:
        predict_run(run, split="train", data=phantom, ui=Ui(), out=tmp_path / "train.parquet")
        table = load_predictions(tmp_path / "train.parquet")
        wanted.append(1 / (1 + np.exp(-table.logits.astype(float))))
    videos, frames = np.array(table.frame["video"].to_list()), table.frame["frame"].to_numpy().astype(np.int64)
    found = taught_of(taught, videos=videos[::-1], frames=frames[::-1])
    np.testing.assert_allclose(found, ((wanted[0] + wanted[1]) / 2)[::-1], atol=1e-6)
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3
    record = json.loads((taught.parent / "targets.json").read_text())
    assert [t["seed"] for t in record["teachers"]] == [0, 1]
    assert record["clips"] == len(found)


def test_a_training_clips_label_mixes_the_runs_and_its_raters_and_val_keeps_the_majority(
    taught: Path, phantom: Path
) -> None:
    experiment = requested(phantom, Path("unused"), "e02_frozen_probe").experiment
    for raters in (0.0, 0.25, 1.0):
        rule = TaughtLabel(targets=str(taught), raters=raters)
        data = OpenData.of(phantom, experiment=replace(experiment, label=rule), ui=Ui())
        table = data.clips("train", training=True)
        given = taught_of(taught, videos=table.videos, frames=table.frame_numbers)
        np.testing.assert_allclose(table.labels, (1 - raters) * given + raters * table.soft, atol=1e-6)
        val = data.clips("val", training=False)
        assert np.array_equal(val.labels, val.majority)


def test_its_dose_is_read_off_the_clips_and_a_table_that_changed_is_seen(
    taught: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = requested(phantom, tmp_path / "run", "e02_frozen_probe")
    experiment = replace(request.experiment, label=TaughtLabel(targets=str(taught), raters=0.5))
    request = replace(request, experiment=experiment)

    def check() -> Any:
        with probe_data(phantom, experiment=experiment, ui=Ui()) as data:
            return dose_check(experiment, request=request, data=data)

    made = check()
    assert made.status == "passed", made.why
    assert "largest distance of a target from what was taught" in made.why
    own = TaughtLabel.__call__
    monkeypatch.setattr(TaughtLabel, "__call__", lambda self, clips: own(self, clips)[::-1].copy())
    assert "largest distance of a target from what was taught" in check().why
    assert check().status == "failed"
    monkeypatch.setattr(TaughtLabel, "__call__", lambda self, clips: clips.centre)
    assert "mean distance of targets from the raters' majority" in check().why


def _changed(path: Path, folder: Path, change: Any) -> str:
    table = pl.read_parquet(path)
    change(table).write_parquet(folder / "changed.parquet")
    return str(folder / "changed.parquet")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.tail(-1), "no soft target for 1 of"),
        (lambda t: t.drop(TAUGHT[0]), "not a table of soft targets"),
        (lambda t: t.with_columns(pl.lit(1.5).alias(TAUGHT[1])), "missing or outside 0 to 1"),
        (lambda t: t.with_columns(pl.lit(float("nan")).alias(TAUGHT[1])), "missing or outside 0 to 1"),
        (lambda t: pl.concat([t, t.head(1)]), "a frame is taught twice"),
        (lambda t: t.with_columns(pl.lit("x").alias(TAUGHT[2])), "not a table of soft targets"),
    ],
)
def test_a_table_that_is_not_what_it_should_be_is_named(
    taught: Path, phantom: Path, tmp_path: Path, change: Any, says: str
) -> None:
    experiment = requested(phantom, Path("unused"), "e02_frozen_probe").experiment
    rule = TaughtLabel(targets=_changed(taught, tmp_path, change))
    with pytest.raises(CalotError, match=rf"changed\.parquet: .*{says}"):
        OpenData.of(phantom, experiment=replace(experiment, label=rule), ui=Ui()).clips("train", training=True)
    missing = TaughtLabel(targets=str(tmp_path / "none.parquet"))
    with pytest.raises(CalotError, match=r"none\.parquet: no such file; label\.targets is a table"):
        OpenData.of(phantom, experiment=replace(experiment, label=missing), ui=Ui()).clips("train", training=True)


def test_teachers_that_cannot_teach_this_student_are_named(
    teachers: list[Path], taught: Path, phantom: Path, tmp_path: Path
) -> None:
    def refused(runs: list[Path], says: str, *, protocol: str = "keyframes", folder: Path = tmp_path / "new") -> None:
        with pytest.raises(CalotError, match=says):
            teach(runs, data=phantom, protocol=protocol, folder=folder, ui=Ui())
        assert not (tmp_path / "new" / "targets.parquet").exists()

    refused([teachers[0], teachers[0]], "named twice")
    refused(teachers, "scores under keyframes, and the student trains under all-frames", protocol="all-frames")
    refused(teachers[:1], "holds soft targets of other runs", folder=taught.parent)
    assert teach(teachers, data=phantom, protocol="keyframes", folder=taught.parent, ui=Ui()) == taught
    copy = Path(shutil.copytree(teachers[0], tmp_path / "copy"))
    (copy / "metrics.csv").write_text("changed")
    refused([copy], r"metrics\.csv: was changed after the run was complete")


@pytest.mark.long
def test_a_student_is_an_ordinary_run_with_a_green_receipt(teachers: list[Path], phantom: Path, tmp_path: Path) -> None:
    quick = ["train.epochs=2", "train.batch=8", "compute.train_subset=8"]
    words = ["distill", *teachers, *quick, "--student", "tiny", "--data", phantom, "--out", tmp_path / "student"]
    done = calot(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    receipt = Receipt.load(tmp_path / "student")
    assert receipt is not None
    assert receipt.failed == ()
    require_sealed(tmp_path / "student")
    record = json.loads((tmp_path / "student" / "experiment.json").read_text())
    assert record["experiment"]["label"]["_type"].endswith("TaughtLabel")
    assert load_predictions(tmp_path / "student" / "predictions" / "val.parquet").frame.height > 0
    assert len(CRITERIA) == len(TAUGHT)
    again = calot(*words, cwd=tmp_path)
    assert again.returncode == 2
    assert "--resume" in again.stderr
