"""`calot data adopt`: folders as other people keep them become a clean view, and every assumption is said."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Done, calot
from endoscapes_folder import Folder
from PIL import Image
from plain_table import frames_folder, videos_folder

from calot.data.endoscapes.reader import read_endoscapes
from calot.data.readers import open_folder
from calot.statistics.predictions import load_predictions


def adopt(root: Path, *words: str) -> Done:
    return calot("data", "adopt", root, "--out", root.parent / "clean", *words, cwd=root.parent)


def rewrite(
    table: Path, *, separator: str = ",", encoding: str = "utf-8", end: str = "\n", comma: bool = False
) -> None:
    rows = list(csv.reader(io.StringIO(table.read_text())))
    if comma:
        rows = [rows[0], *([cell.replace(".", ",") if cell[:1].isdigit() else cell for cell in r] for r in rows[1:])]
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=end).writerows(rows)
    table.write_bytes(text.getvalue().encode(encoding))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"separator": ";"}, "columns separated by ';'"),
        ({"separator": ";", "comma": True}, "decimal commas"),
        ({"separator": "\t"}, "columns separated by tab"),
        ({"encoding": "utf-16"}, "read as UTF-16"),
        ({"end": "\r\n"}, "line ends of Windows"),
        ({"end": "\r"}, "line ends of Windows or an old Mac"),
    ],
)
def test_a_table_of_another_program_is_the_same_data(
    folder: Callable[[], Folder], how: dict[str, str], said: str
) -> None:
    root = folder().write_images()
    before = read_endoscapes(root)
    rewrite(root / "all_metadata.csv", **how)  # type: ignore[arg-type]
    done = adopt(root)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    after = open_folder(root.parent / "clean").manifest
    assert after.hash == before.hash
    assert said in " ".join(json.loads((root.parent / "clean" / "adopted.json").read_text())["assumed"])
    assert calot("data", "verify", root.parent / "clean", cwd=root.parent).returncode == 0


def test_names_of_columns_ids_flags_endings_and_hidden_files(folder: Callable[[], Folder]) -> None:
    root = folder().write_images()
    before = read_endoscapes(root)
    table = root / "all_metadata.csv"
    text = table.read_text().replace("vid,frame", "Video_ID,Frame").replace(",C1,", ",c1,")
    text = text.replace("True", "1").replace("False", "0")
    text = "\n".join(line.replace("2,", "002,", 1) if line.startswith("2,") else line for line in text.splitlines())
    table.write_text(text)
    table.rename(root / "ALL_metadata.CSV")
    for path in list((root / "val").iterdir()):
        path.rename(path.with_suffix(".JPEG"))
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7")
    (root / "semseg").mkdir()
    Image.new("L", (40, 24), 2).save(root / "semseg" / "002_2050.PNG", format="PNG")
    done = adopt(root)
    assert done.returncode == 0, done.stderr
    for said in (
        *('column "Video_ID" is vid', 'column "c1" is C1', '12 cells of vid are written plainly ("002" is 2)'),
        *("12 images ending in .JPEG, linked", "1 masks ending in .PNG, linked", "12 files passed over: hidden"),
    ):
        assert said in done.stdout
    manifest = open_folder(root.parent / "clean").manifest
    assert manifest.hash == before.hash
    assert manifest.table["mask"].drop_nulls().to_list() == ["semseg/2_2050.png"]
    assert calot("data", "store", root.parent / "clean", "--size", "16", cwd=root.parent).returncode == 0


def renumbered(folder: Callable[[], Folder], *, step: int) -> Path:
    made = folder()
    rows = [row.split(",", 2) for row in made.rows]
    made.rows = [f"{video},{int(frame) // 25 * step},{rest}" for video, frame, rest in rows]
    return made.write_images()


def test_numbers_that_rise_by_one_are_one_a_second_and_said(folder: Callable[[], Folder]) -> None:
    root = renumbered(folder, step=1)
    done = adopt(root)
    assert "frame numbers rise by 1: one frame per second" in done.stdout
    assert open_folder(root.parent / "clean").manifest.numbering.seconds_apart == 1


@pytest.mark.parametrize("step", [5, 30, 50])
def test_a_rate_that_nothing_tells_is_asked_for(folder: Callable[[], Folder], step: int) -> None:
    root = renumbered(folder, step=step)
    done = adopt(root)
    assert done.returncode == 2
    assert f"frame numbers rise by {step}" in done.stderr
    assert "--frames-per-second" in done.stderr
    assert not (root.parent / "clean").exists()
    assert adopt(root, "--frames-per-second", str(step)).returncode == 0
    assert open_folder(root.parent / "clean").manifest.numbering.per_second == step


@pytest.mark.parametrize("make", [videos_folder, frames_folder])
def test_a_plain_table_of_another_program_is_the_same_data(make: Callable[[Path], Path], tmp_path: Path) -> None:
    root = make(tmp_path / "theatre")
    before = open_folder(root).manifest
    rewrite(root / "labels.csv", separator=";", end="\r\n")
    done = adopt(root)
    assert done.returncode == 0, done.stderr
    assert open_folder(tmp_path / "clean").manifest.hash == before.hash


def test_nothing_of_theirs_is_changed_and_nothing_is_left_of_what_failed(folder: Callable[[], Folder]) -> None:
    root = folder().write_images()
    (root / "all_metadata.csv").write_text("vid,frame\n1,25\n")
    before = {path: os.stat(path).st_mtime_ns for path in root.rglob("*")}
    done = adopt(root)
    assert done.returncode == 2
    assert "is missing" in done.stderr
    assert {path: os.stat(path).st_mtime_ns for path in root.rglob("*")} == before
    assert sorted(path.name for path in root.parent.iterdir()) == [root.name]


@pytest.mark.parametrize("inside", [True, False])
def test_it_writes_neither_inside_nor_over_anything(folder: Callable[[], Folder], inside: bool) -> None:
    root = folder().write_images()
    out = root / "clean" if inside else root
    done = calot("data", "adopt", root, "--out", out, cwd=root.parent)
    assert done.returncode == 2
    assert ("lies inside" if inside else "exists") in done.stderr


def test_a_table_of_predictions_is_written_plainly(tmp_path: Path) -> None:
    names = ("two_structures", "hepatocystic_triangle", "cystic_plate")
    head = ["video", "frame", *(f"logit_{n}" for n in names), *(f"label_{n}" for n in names)]
    rows = [[f"{v:03d}", 25 * f, "1,5", "-0,25", "-0,75", 1, 0, v % 2] for v in (1, 2) for f in range(3)]
    text = "\n".join(";".join(map(str, row)) for row in [head, *rows])
    (tmp_path / "theirs.csv").write_text(text)
    done = calot("data", "adopt", tmp_path / "theirs.csv", "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "decimal commas" in done.stdout
    assert "2 videos, numbered 1 to 2; 6 frames; scores from -0.75 to 1.5 as logits" in done.stdout
    assert load_predictions(tmp_path / "out" / "predictions.csv").logits[0].tolist() == [1.5, -0.25, -0.75]
