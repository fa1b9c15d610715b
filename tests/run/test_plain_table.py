"""A plain table of videos or of frames goes the whole line: train, predict, metrics; without labels, predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import calot
from plain_table import frames_folder, videos_folder

from calot.statistics.predictions import load_predictions

TRAIN = ("--scale", "tiny", "--seeds", "1", "--no-receipt", "train.epochs=1")


@pytest.fixture(scope="module", params=[videos_folder, frames_folder], ids=["videos", "frames"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    root = request.param(home / "theatre")
    done = calot("train", "e02_frozen_probe", *TRAIN, "--data", root, "--out", home / "run", cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def test_a_run_on_a_plain_table_reports_its_true_name_rate_and_windows(trained: Path) -> None:
    told = json.loads((trained / "run" / "data.json").read_text())
    name, rate = told["dataset"], told["understood"]["frames_per_second"]
    assert (name, rate) in {("theatre", 1000.0), ("our-theatre", 30.0)}
    assert told["synthetic"] is False
    assert told["windows"]["train"] == {
        "clips": 24,
        "left_out_by_the_label_rule": 0,
        "one_frame": 3,
        "distinct_frames": {"least": 1, "median": 8.0},
    }
    predictions = load_predictions(trained / "run" / "predictions" / "val.parquet")
    assert (predictions.dataset, predictions.frames_per_second, len(predictions.frames)) == (name, rate, 16)
    page = (trained / "run" / "report.html").read_text()
    assert name in page
    assert "ndoscapes" not in page


def test_predictions_of_a_folder_without_labels_are_legal_and_metrics_says_what_they_lack(trained: Path) -> None:
    table = pl.read_csv((trained / "theatre" / "labels.csv").read_bytes(), infer_schema=False)
    bare = trained / "bare"
    bare.mkdir()
    for part in (trained / "theatre").iterdir():
        if part.name not in ("labels.csv", ".calot"):
            (bare / part.name).symlink_to(part)
    table.select(pl.col("video", "split", "^time|frame$")).write_csv(bare / "labels.csv")
    done = calot("predict", trained / "run", "--data", bare, "--out", trained / "bare.parquet", cwd=trained)
    assert done.returncode == 0, done.stdout + done.stderr
    scored, own = (load_predictions(trained / p) for p in ("bare.parquet", "run/predictions/val.parquet"))
    assert not scored.labelled
    assert own.labelled
    assert np.array_equal(scored.logits, own.logits)
    said = calot("metrics", trained / "bare.parquet", cwd=trained)
    assert "no labels" in said.stdout + said.stderr


def test_training_on_a_folder_without_labels_is_refused_in_one_line(trained: Path) -> None:
    table = pl.read_csv((trained / "theatre" / "labels.csv").read_bytes(), infer_schema=False)
    bare = trained / "no labels"
    bare.mkdir()
    for part in (trained / "theatre").iterdir():
        if part.name not in ("labels.csv", ".calot"):
            (bare / part.name).symlink_to(part)
    table.select(pl.col("video", "split", "^time|frame$")).write_csv(bare / "labels.csv")
    done = calot("train", "e02_frozen_probe", *TRAIN, "--data", bare, "--out", trained / "none", cwd=trained)
    assert done.returncode == 2
    assert "have no label, first video" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 3  # the run, what the folder was taken for, why not
