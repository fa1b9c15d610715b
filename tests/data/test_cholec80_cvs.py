"""Cholec80-CVS: columns 2 and 3 by name, segments as frames, 0 outside them, positive from 1, none after clipping."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from challenge_folders import SHEET, cholec80, cholec80_pictures, film, segment, write_phases, write_sheet

from calot.criteria import CRITERIA
from calot.data.numbering import FrameNumbering
from calot.data.readers import open_folder
from calot.errors import CalotError

SECONDS = 40


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos without a row that matters."""
    root = tmp_path_factory.mktemp("made") / "c80"
    for number in (3, 4):
        film(root / "videos" / f"video{number:02d}.mp4", video=number, seconds=SECONDS, rate=25, step=5)
    return root


@pytest.fixture
def own(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "own"))


def labels_at(root: Path, video: str, second: int) -> dict[str, int | None]:
    table = open_folder(root).manifest.table.filter(pl.col("video") == video, pl.col("frame") == 25 * second)
    return {c: table[f"label_{c}"][0] for c in CRITERIA}


def test_columns_2_and_3_are_the_other_way_round_than_endoscapes(own: Path) -> None:
    """Column 2 is the cystic plate, whether columns are called by name or C1, C2, C3."""
    row = (*segment(3, 5, 9, (0, 1, 0))[:-2], 1, 0)
    for head in (SHEET, (*SHEET[:5], "C1", "C2", "C3", *SHEET[8:]), tuple(n.replace("_", " ").title() for n in SHEET)):
        write_sheet(own / "s.xlsx", [row, segment(4, 0, 1, (0, 0, 0))], head=head)
        assert labels_at(own, "3", 6) == {"two_structures": 0, "hepatocystic_triangle": 0, "cystic_plate": 1}


def test_segments_hold_their_last_frame_and_frames_outside_are_negative(own: Path) -> None:
    write_sheet(own / "s.xlsx", [segment(3, 5, 9, (1, 0, 0)), segment(4, 0, 0, (0, 0, 0))])
    got = [labels_at(own, "3", second)["two_structures"] for second in range(SECONDS)]
    assert got == [int(5 <= second <= 9) for second in range(SECONDS)]
    assert [labels_at(own, "4", second) for second in (0, 20)] == [dict.fromkeys(CRITERIA, 0)] * 2


def test_a_score_of_1_is_positive_as_2_is(own: Path) -> None:
    write_sheet(own / "s.xlsx", [segment(3, 5, 9, (1, 2, 0)), segment(4, 0, 0, (0, 0, 0))])
    assert labels_at(own, "3", 7) == {"two_structures": 1, "cystic_plate": 1, "hepatocystic_triangle": 0}


def test_a_later_row_with_a_score_wins_and_one_without_does_not(own: Path) -> None:
    rows = [segment(3, 5, 9, (1, 1, 1)), segment(3, 7, 8, (2, 0, 0)), segment(3, 5, 20, (0, 0, 0))]
    write_sheet(own / "s.xlsx", [*rows, segment(4, 0, 0, (0, 0, 0))])
    assert list(labels_at(own, "3", 6).values()) == [1, 1, 1]
    assert labels_at(own, "3", 7) == {"two_structures": 1, "cystic_plate": 0, "hepatocystic_triangle": 0}


def test_nothing_is_judged_from_the_clipping_on(own: Path) -> None:
    write_sheet(own / "s.xlsx", [segment(3, 5, 39, (1, 0, 0)), segment(4, 0, 0, (0, 0, 0))])
    write_phases(own, 3, seconds=SECONDS, clipping=30)
    manifest = open_folder(own).manifest
    third = manifest.table.filter(pl.col("video") == "3")
    assert third.filter("keyframe")["frame"].to_list() == list(range(0, 30 * 25, 25))
    assert third.filter(~pl.col("keyframe"))["label_two_structures"].null_count() == 10
    assert "1 videos are judged to their end, for phase_annotations/ has no file of them" in manifest.assumed


def test_a_segment_that_ends_before_it_begins_counts_for_nothing_and_is_said(own: Path) -> None:
    """The published sheet has three."""
    write_sheet(own / "s.xlsx", [segment(3, 9, 5, (1, 0, 0)), segment(4, 0, 0, (0, 0, 0))])
    manifest = open_folder(own).manifest
    assert manifest.assumed[0] == "1 segments end before they begin (row 2), and count for nothing"
    assert not (manifest.labels > 0).any()


def test_the_authors_own_split_is_taken_and_said(tmp_path: Path) -> None:
    manifest = open_folder(cholec80(tmp_path / "c", videos=(1, 3, 5), seconds=8, clipping=6)).manifest
    assert {s: set(manifest.split(s).videos) for s in manifest.splits} == {"train": {"3"}, "val": {"1"}, "test": {"5"}}
    assert manifest.assumed == ("split as its authors' code has it (50 train, 15 val, 15 test)",)
    assert (manifest.dataset, manifest.numbering) == ("cholec80-cvs", FrameNumbering(25, 25))


def test_pictures_from_1_one_a_second_are_read_once_both_are_declared(tmp_path: Path) -> None:
    root = cholec80_pictures(tmp_path / "c", videos=(1, 3), seconds=30)
    with pytest.raises(CalotError, match="pictures are numbered from 1"):
        open_folder(root)
    (root / "dataset.json").write_text('{"first_frame": 1}')
    with pytest.raises(CalotError, match="picture numbers rise by 1; say what they count"):
        open_folder(root)
    (root / "dataset.json").write_text('{"first_frame": 1, "frames_per_second": 1}')
    table = open_folder(root).manifest.table
    tenth = table.filter(pl.col("video") == "3", pl.col("frame") == 250).row(0, named=True)
    assert tenth["image"] == "frames/video03/video03_000011.png"
    assert (tenth["label_two_structures"], tenth["label_cystic_plate"], tenth["label_hepatocystic_triangle"]) == (
        1,
        1,
        0,
    )
    ninth = table.filter(pl.col("video") == "3", pl.col("frame") == 225).row(0, named=True)
    assert ninth["label_two_structures"] == 0


def test_pictures_numbered_as_the_video_are_thinned_to_one_a_second(tmp_path: Path) -> None:
    root = cholec80_pictures(tmp_path / "c", videos=(1, 3), seconds=30, first=0)
    (root / "dataset.json").write_text(json.dumps({"frames_per_second": 5}))
    manifest = open_folder(root).manifest
    assert manifest.numbering == FrameNumbering(25, 25)
    assert manifest.table.filter(pl.col("video") == "1")["image"].to_list()[1].endswith("_000005.png")
    (root / "dataset.json").write_text(json.dumps({"frames_per_second": 7}))
    with pytest.raises(CalotError, match="frames_per_second is 7; Cholec80 has 25"):
        open_folder(root)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, "nan", r"row 2: video is \"nan\""),
        (1, None, "row 2: initial_minute is ''; need a whole number"),
        (2, 2.5, "row 2: initial_second is '2.5'"),
        (5, 3, "row 2: two_structures is 3; need a score 0, 1 or 2"),
        (6, -1, "row 2: cystic_plate is '-1'"),
        (7, "", "row 2: hepatocystic_triangle is ''"),
    ],
)
def test_cells_that_cannot_be_are_refused_with_their_row(own: Path, place: int, value: object, message: str) -> None:
    row = list(segment(3, 5, 9, (1, 0, 0)))
    row[place] = value
    write_sheet(own / "s.xlsx", [tuple(row)])
    with pytest.raises(CalotError, match=message):
        open_folder(own)


def test_a_sheet_that_is_none_and_two_sheets_are_named(own: Path) -> None:
    write_sheet(own / "s.xlsx", [segment(3, 5, 9, (1, 0, 0))], head=(*SHEET[:6], "cystic_plat", *SHEET[7:]))
    with pytest.raises(CalotError, match=r'column "cystic_plate" is missing. Did you mean "cystic_plat"'):
        open_folder(own)
    (own / "s.xlsx").write_bytes(b"PK\3\4 no sheet")
    with pytest.raises(CalotError, match="not a readable Excel file"):
        open_folder(own)
    write_sheet(own / "t.xlsx", [])
    with pytest.raises(CalotError, match=r"two tables. Keep the one of segments"):
        open_folder(own)
    (own / "s.xlsx").unlink()
    with pytest.raises(CalotError, match="no row below the header"):
        open_folder(own)


def test_another_hospitals_videos_in_the_layout_keep_their_own_name_and_split(own: Path) -> None:
    for number in (3, 4):
        (own / "videos" / f"video{number:02d}.mp4").rename(own / "videos" / f"case {number}.mp4")
    rows = [(f"case {number}", *segment(number, 5, 9, (1, 0, 0))[1:]) for number in (3, 4)]
    write_sheet(own / "s.xlsx", rows)
    manifest = open_folder(own).manifest
    assert manifest.dataset == "own"
    assert manifest.assumed[0].startswith("split by video with seed 0")
