"""The plain-table reader, and what every reader must do: found by looking, read by its own rate, labels or none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from command_line import calot
from endoscapes_folder import Folder
from plain_table import frames_folder, labels_of, steady, videos_folder, write_labels, write_video

from calot.data.clip_rules import ClipRule
from calot.data.clips import AllFrames, CentreLabel, Keyframes, build_clips
from calot.data.numbering import FrameNumbering
from calot.data.readers import Reader, open_folder, reader_of, readers
from calot.errors import CalotError


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos_folder(tmp_path_factory.mktemp("made") / "theatre")


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return frames_folder(tmp_path_factory.mktemp("made") / "frames set")


def one_video(root: Path, rows: list[dict[str, object]], *, seconds: int = 6) -> Path:
    write_video(root / "videos" / "a.mp4", video=1, times=steady(seconds=seconds))
    return write_labels(root, rows)


def test_rows_are_keyframes_and_the_seconds_between_are_there_to_be_seen(filmed: Path) -> None:
    manifest = open_folder(filmed).manifest
    assert manifest.numbering == FrameNumbering(1000, 1000)
    assert (manifest.dataset, manifest.splits, manifest.raters) == ("theatre", ("train", "val"), ())
    assert len(manifest) == 5 * 24
    key = manifest.table.filter("keyframe")
    assert key["frame"].unique().sort().to_list() == list(range(0, 24_000, 3000))
    for video, frame, *labels in key.select("video", "frame", pl.col("^label_.*$")).iter_rows():
        assert tuple(labels) == labels_of(int(video.split()[1]), frame // 1000)
    assert not manifest.labelled[~manifest.keyframes].any()


def test_frames_count_as_their_names_and_the_declared_rate_say(pictured: Path) -> None:
    manifest = open_folder(pictured).manifest
    assert manifest.numbering == FrameNumbering(30, 30)
    assert manifest.dataset == "our-theatre"
    assert set(manifest.videos) == {"1", "2", "3", "4", "5"}
    assert manifest.table.row(0, named=True)["image"] == "frames/001/000000.png"


@pytest.mark.parametrize("kind", ["filmed", "pictured"])
def test_clips_of_videos_and_of_frames_span_the_same_seconds(kind: str, request: pytest.FixtureRequest) -> None:
    manifest = open_folder(request.getfixturevalue(kind)).manifest
    table = build_clips(
        manifest,
        split="train",
        protocol=Keyframes(),
        rule=ClipRule(length=4),
        label_rule=CentreLabel(),
        training=True,
    )
    assert len(table) == 3 * 8
    spans = (table.clip_frame_numbers[:, -1] - table.clip_frame_numbers[:, 0]) / table.frames_per_second
    assert set(spans.tolist()) == {0, 3}


@pytest.mark.parametrize("kind", ["filmed", "pictured"])
@pytest.mark.parametrize(
    "words", [("stats",), ("stats", "--json"), ("verify",), ("store", "--size", "16"), ("store", "--drop-unreadable")]
)
def test_every_data_command_takes_the_folder(kind: str, words: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(kind)
    done = calot("data", words[0], root, *words[1:], cwd=root.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_line_that_says_what_was_understood_is_printed_and_in_json(filmed: Path) -> None:
    said = calot("data", "stats", filmed, cwd=filmed.parent).stdout.splitlines()[0]
    assert said.startswith("theatre: 5 videos, named op 1 to op 5; 120 frames (40 labelled; 40 keyframes, 0 raters);")
    assert "1000 frame numbers per second, every 1000 sampled (1 s); no masks" in said
    told = json.loads(calot("data", "stats", filmed, "--json", cwd=filmed.parent).stdout)["understood"]
    assert (told["reader"], told["seconds_apart"]) == ("TableReader", 1.0)
    assert told["videos"] == "5 videos, named op 1 to op 5"


def test_frame_ids_of_another_rate_are_times(tmp_path: Path) -> None:
    """As SAGES counts: 30 a second, a label every 5 s."""
    root = one_video(tmp_path / "s", [{"video": "a", "split": "val", "frame": f} for f in (0, 150)])
    with pytest.raises(CalotError, match=r"dataset\.json: say how frames are numbered"):
        open_folder(root)
    (root / "dataset.json").write_text('{"frames_per_second": 30}')
    manifest = open_folder(root).manifest
    assert manifest.numbering == FrameNumbering(30, 30)
    assert manifest.table.filter("keyframe")["image"].to_list() == ["videos/a.mp4#t=0", "videos/a.mp4#t=5"]


def test_a_row_without_a_time_asks_for_the_whole_video(tmp_path: Path) -> None:
    root = one_video(tmp_path / "s", [{"video": "a", "split": "val", "time": ""}])
    manifest = open_folder(root).manifest
    assert manifest.keyframes.tolist() == [True] * 6
    assert not manifest.labelled.any()


def test_splits_may_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    root = one_video(tmp_path / "s", [{"video": "A", "time": 0}])
    with pytest.raises(CalotError, match=r"splits\.csv: not found"):
        open_folder(root)
    (root / "splits.csv").write_text("video,split\nA,Val\nB,train\n")
    with pytest.raises(CalotError, match="video A has no sampled frame"):
        open_folder(root)
    (root / "videos" / "a.mp4").rename(root / "videos" / "A.mp4")
    assert open_folder(root).manifest.splits == ("val",)


ROW = {"video": "a", "split": "train", "time": 2, "cystic_plate": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": "nan"}, "line 2: video is"),
        ({"video": "b"}, "line 2: video b has no sampled frame 2000"),
        ({"time": 7}, "line 2: video a has no sampled frame 7000"),
        ({"time": 2.5}, "line 2: video a has no sampled frame 2500"),
        ({"time": -1}, "line 2: time is .* need seconds from 0"),
        ({"time": "2,0"}, "cells|not a readable|need a number"),
        ({"time": "0.0004"}, "whole frame number"),
        ({"split": "testing"}, 'line 2: split "testing" is not one of'),
        ({"split": ""}, "line 2: split"),
        ({"cystic_plate": 2}, "is not a label between 0 and 1"),
        ({"cystic_plate": "nan"}, "line 2: cystic_plate is .* need a number with a decimal point, or an empty cell"),
        ({"cystic_plat": 1}, 'nothing reads column "cystic_plat". Did you mean "cystic_plate"'),
        ({"frame": 50}, "need an empty cell beside a frame number"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    root = one_video(tmp_path / "s", [{**ROW, **change}])
    with pytest.raises(CalotError, match=message):
        open_folder(root)


def test_a_frame_in_two_rows_is_refused(tmp_path: Path) -> None:
    root = one_video(tmp_path / "s", [ROW, {**ROW, "cystic_plate": 0}])
    with pytest.raises(CalotError, match="line 3: frame 2000 of video a is in a row already"):
        open_folder(root)


def test_separators_other_than_commas_are_named_with_the_way_out(tmp_path: Path) -> None:
    root = one_video(tmp_path / "s", [ROW])
    table = root / "labels.csv"
    table.write_text(table.read_text().replace(",", ";"))
    with pytest.raises(CalotError, match=r"separated by ';'; save the file with commas, or: calot data adopt"):
        open_folder(root)


def test_two_files_of_one_video_are_refused(tmp_path: Path) -> None:
    root = one_video(tmp_path / "s", [ROW])
    (root / "videos" / "a.MKV").write_bytes((root / "videos" / "a.mp4").read_bytes())
    with pytest.raises(CalotError, match="are both video a"):
        open_folder(root)


def test_files_that_systems_leave_are_passed_over_and_counted(filmed: Path, pictured: Path) -> None:
    try:
        for folder in (filmed / "videos", pictured / "frames" / "001"):
            (folder / "._op 1.mp4").write_bytes(b"\0\5\x16\7")
            (folder / ".DS_Store").write_bytes(b"x")
            (folder / "Thumbs.db").write_bytes(b"x")
        for root in (filmed, pictured):
            said = calot("data", "stats", root, cwd=root).stdout.splitlines()[0]
            assert said.endswith("3 hidden files passed over")
    finally:
        for folder in (filmed / "videos", pictured / "frames" / "001"):
            for name in ("._op 1.mp4", ".DS_Store", "Thumbs.db"):
                (folder / name).unlink(missing_ok=True)


def test_verify_finds_what_training_would_meet(tmp_path: Path) -> None:
    root = one_video(tmp_path / "s", [{**ROW, "time": t} for t in (0, 1, 2, 3)], seconds=6)
    write_video(root / "videos" / "b.mp4", video=1, times=steady(seconds=6))
    write_labels(root, [{**ROW, "video": v, "time": t} for v in "ab" for t in range(6)])
    data = bytearray((root / "videos" / "b.mp4").read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    (root / "videos" / "b.mp4").write_bytes(bytes(data))
    done = calot("data", "verify", root, "--json", cwd=tmp_path)
    assert done.returncode == 1
    found = json.loads(done.stdout)["findings"]
    assert found
    assert all("b.mp4" in f["file"] + f["message"] for f in found)


def test_a_folder_of_stills_is_found_before_training(tmp_path: Path) -> None:
    root = frames_folder(tmp_path / "s", seconds=1)
    done = calot("data", "verify", root, cwd=tmp_path)
    assert done.returncode == 1
    assert "show one frame alone" in done.stdout


def test_no_reader_and_two_readers_say_what_each_looks_for(tmp_path: Path, folder: Callable[[], Folder]) -> None:
    with pytest.raises(CalotError) as caught:
        reader_of(tmp_path)
    assert all(reader.looks_for in str(caught.value) for reader in readers())
    root = folder().write()
    with pytest.raises(CalotError, match=f"Did you mean {root}"):
        reader_of(root.parent)
    write_labels(root, [ROW])
    with pytest.raises(CalotError, match="could be read in 2 ways"):
        reader_of(root)


def test_all_frames_of_partly_labelled_videos_can_be_scored_and_not_trained_on(filmed: Path) -> None:
    manifest = open_folder(filmed).manifest
    how = {"protocol": AllFrames(), "rule": ClipRule(length=4), "label_rule": CentreLabel()}
    assert len(build_clips(manifest, split="val", training=False, **how)) == 48
    with pytest.raises(CalotError, match="have no label, first video op 1, frame 1000"):
        build_clips(manifest, split="train", training=True, **how)


def test_the_name_of_another_data_set_cannot_be_taken(tmp_path: Path) -> None:
    root = one_video(tmp_path / "Endoscapes", [ROW])
    assert open_folder(root).manifest.dataset == "Endoscapes (a folder's name)"
    for name in ("endoscapes", "Phantom", " endoscapes "):
        (root / "dataset.json").write_text(json.dumps({"name": name}))
        with pytest.raises(CalotError, match="is another data set's, known by its content"):
            open_folder(root)


def test_a_name_is_no_content_and_a_rate_is(tmp_path: Path) -> None:
    root = one_video(tmp_path / "s", [{**ROW, "time": t} for t in (0, 2, 4)])
    first = open_folder(root).manifest.hash
    moved = root.rename(tmp_path / "elsewhere")
    assert open_folder(moved).manifest.hash == first
    (moved / "dataset.json").write_text('{"name": "ours", "seconds_apart": 1}')
    assert open_folder(moved).manifest.hash == first
    (moved / "dataset.json").write_text('{"name": "ours", "seconds_apart": 2}')
    assert open_folder(moved).manifest.hash != first


def test_a_reader_of_another_package_is_found_by_being_one() -> None:
    own = {"EndoscapesReader", "TableReader", "Sages2024Reader", "Sages2025Reader", "Cholec80CvsReader"}
    assert {type(reader).__name__ for reader in readers()} == own
    assert all(isinstance(reader, Reader) for reader in readers())
