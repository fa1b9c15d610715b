"""The statistics on the published label tables, whose folder CALOT_REAL_LABELS names: they never enter this project."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from calot.criteria import COLUMNS, CRITERIA
from calot.statistics.predictions import Predictions
from calot.statistics.summary import summarise

FOLDER = os.environ.get("CALOT_REAL_LABELS")
pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="CALOT_REAL_LABELS names no folder with endo_val_keyframes_raters.csv"
)


def real(name: str) -> Predictions:
    """The real labels with scores made up from the rater means and noise that leans by video."""
    raw = pl.read_csv(Path(FOLDER or "") / f"endo_val_{name}.csv", infer_schema_length=None)
    columns = {"video": raw["vid"].cast(pl.String), "frame": raw["frame"]}
    rng = np.random.default_rng(0)
    lean = {video: rng.normal(size=3) for video in raw["vid"].unique(maintain_order=True).to_list()}
    for k, (letter, criterion) in enumerate(COLUMNS["endoscapes"].items()):
        soft = raw[letter.lower()].to_numpy()
        score = 2 * soft - 2 + np.array([lean[v][k] for v in raw["vid"]]) + rng.normal(size=len(soft))
        columns |= {f"soft_{criterion}": pl.Series(soft), f"label_{criterion}": pl.Series((soft >= 0.5).astype(int))}
        columns[f"logit_{criterion}"] = pl.Series(score)
    return Predictions(frame=pl.DataFrame(columns))


def test_val_keyframes_have_the_known_size_and_prevalence() -> None:
    found = summarise(real("keyframes_raters")).to_dict()
    assert (found["videos"], found["frames"]) == (41, 2331)
    assert found["map"]["chance"] == pytest.approx(0.152, abs=0.0005)
    assert [found["ap"][name]["prevalence"] for name in CRITERIA] == pytest.approx([0.1634, 0.1248, 0.1669], abs=5e-5)


def test_val_all_frames_have_the_known_size_and_prevalence() -> None:
    found = summarise(real("all1fps")).to_dict()
    assert (found["videos"], found["frames"]) == (41, 12_372)
    assert found["map"]["chance"] == pytest.approx(0.140, abs=0.0005)


def test_the_interval_over_real_videos_is_wide() -> None:
    found = summarise(real("keyframes_raters")).to_dict()["ap"]["two_structures"]
    assert found["high"] - found["low"] > 0.15
