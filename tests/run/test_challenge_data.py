"""Each reader's folder goes the whole line: stats, verify, store, doctor, train, predict, metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from challenge_folders import cholec80, cholec80_pictures, sages2024, sages2025
from command_line import calot
from plain_table import frames_folder, videos_folder

from calot.statistics.predictions import load_predictions

TRAIN = ("--scale", "tiny", "--seeds", "1", "--no-receipt", "--no-page", "train.epochs=1", "frames.mixed_sizes=True")


def five_clips(root: Path) -> Path:
    """Three to train on, and one in val and in test."""
    return sages2024(root, videos=5)


def five_clips_of_pictures(root: Path) -> Path:
    """The same of 2025."""
    return sages2025(root, videos=5, every=30)


def counted_pictures(root: Path) -> Path:
    """Cholec80's frames with what their names cannot show declared."""
    cholec80_pictures(root)
    (root / "dataset.json").write_text('{"first_frame": 1, "frames_per_second": 1}')
    return root


KINDS = {
    "sages 2024": (five_clips, "Sages2024Reader", "sages-2024"),
    "sages 2025": (five_clips_of_pictures, "Sages2025Reader", "sages-2025"),
    "cholec80 videos": (cholec80, "Cholec80CvsReader", "cholec80-cvs"),
    "cholec80 pictures": (counted_pictures, "Cholec80CvsReader", "cholec80-cvs"),
    "table of videos": (videos_folder, "TableReader", "data"),
    "table of frames": (frames_folder, "TableReader", "our-theatre"),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_goes_the_whole_line(kind: str, tmp_path: Path) -> None:
    make, reader, name = KINDS[kind]
    root = make(tmp_path / "data")
    for words in (
        ("data", "stats", root),
        ("data", "verify", root),
        ("data", "store", root, "--size", "16", "--mixed-sizes"),
        ("doctor", "--data", root),
        ("train", "e02_frozen_probe", *TRAIN, "--data", root, "--out", tmp_path / "run"),
        ("predict", tmp_path / "run", "--data", root, "--out", tmp_path / "val.parquet"),
    ):
        done = calot(*words, cwd=tmp_path)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    told = json.loads((tmp_path / "run" / "data.json").read_text())
    assert (told["dataset"], told["understood"]["reader"]) == (name, reader)
    table = load_predictions(tmp_path / "val.parquet")
    assert (table.dataset, table.split) == (name, "val")
    scored = json.loads(calot("metrics", tmp_path / "val.parquet", "--json", cwd=tmp_path).stdout)
    assert set(scored["ap"]) == {"two_structures", "hepatocystic_triangle", "cystic_plate"}
