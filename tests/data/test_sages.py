"""The SAGES CVS challenge's two layouts: criteria by name, 30 numbers a second from 0, three raters, a drawn split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from challenge_folders import CONFIDENCES, RATED, clip_id, sages2024, sages2025, usual_votes, write_sages_labels
from command_line import calot

from calot.criteria import CYSTIC_PLATE, HEPATOCYSTIC_TRIANGLE, TWO_STRUCTURES
from calot.data.clip_rules import ClipRule
from calot.data.clips import CentreLabel, Keyframes, build_clips
from calot.data.numbering import FrameNumbering
from calot.data.readers import open_folder
from calot.data.splitting import drawn_split
from calot.data.understood import Understood
from calot.errors import CalotError


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sages2024(tmp_path_factory.mktemp("made") / "sages", videos=4)


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sages2025(tmp_path_factory.mktemp("made") / "sages", videos=4)


@pytest.fixture
def own(filmed: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(filmed, tmp_path / "own"))


@pytest.mark.parametrize("kind", ["filmed", "pictured"])
def test_votes_are_read_by_name_at_30_numbers_a_second_from_0(kind: str, request: pytest.FixtureRequest) -> None:
    manifest = open_folder(request.getfixturevalue(kind)).manifest
    assert manifest.numbering == FrameNumbering(30, 30)
    assert (manifest.dataset[:6], manifest.raters, len(manifest)) == ("sages-", (1, 2, 3), 4 * 90)
    key = manifest.table.filter("keyframe")
    assert key["frame"].unique().sort().to_list() == list(RATED)
    of = {clip_id(number): number for number in range(1, 5)}
    for row in key.iter_rows(named=True):
        for k, criterion in enumerate((TWO_STRUCTURES, HEPATOCYSTIC_TRIANGLE, CYSTIC_PLATE)):
            votes = [usual_votes(of[row["video"]], row["frame"], k, r) for r in (1, 2, 3)]
            assert [row[f"vote{r}_{criterion}"] for r in (1, 2, 3)] == votes
            assert row[f"label_{criterion}"] == (sum(votes) >= 2)


@pytest.mark.parametrize("kind", ["filmed", "pictured"])
def test_a_rated_frame_shows_its_own_second(kind: str, request: pytest.FixtureRequest) -> None:
    """The picture's grey tells the second; a reader one frame or one row off would show another."""
    folder = open_folder(request.getfixturevalue(kind))
    rows = folder.manifest.table.filter(pl.col("video") == clip_id(2), pl.col("frame").is_in([0, 150, 2550]))
    greys = [float(np.median(p)) for p in folder.frames.pictures(rows["image"].to_list())]
    assert greys == pytest.approx([60, 65, 145], abs=4)


def test_pictures_from_1_are_refused_unless_declared(tmp_path: Path) -> None:
    """As the organisers' own loader names them: picture n is frame n - 1."""
    root = sages2025(tmp_path / "s", videos=3, first_number=1)
    with pytest.raises(
        CalotError, match=r'numbered from 1 .* every label would be one picture off\. Say \{"first_frame'
    ):
        open_folder(root)
    (root / "dataset.json").write_text('{"first_frame": 1}')
    manifest = open_folder(root).manifest
    rated = manifest.table.filter(pl.col("keyframe"), pl.col("frame") == 150)
    assert {name.rsplit("_", 1)[1] for name in rated["image"]} == {"151.jpg"}
    (root / "dataset.json").write_text('{"first_frame": 0}')
    with pytest.raises(CalotError, match="no picture has a number that 30 divides"):
        open_folder(root)


def test_a_wrong_declaration_of_the_first_picture_is_refused(pictured: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(pictured, tmp_path / "own"))
    (root / "dataset.json").write_text('{"first_frame": 1}')
    with pytest.raises(CalotError, match=r"says that pictures are numbered from 1, and video .* has picture 0"):
        open_folder(root)
    (root / "dataset.json").write_text('{"first_frame": 2}')
    with pytest.raises(CalotError, match="first_frame is 2; give a whole number from 0 to 1"):
        open_folder(root)


def test_labels_from_1_are_refused(own: Path) -> None:
    write_sages_labels(own, 2, frames=[f + 1 for f in RATED])
    with pytest.raises(CalotError, match=r"frame\.csv: frame_id begins with 1, and counts from 0"):
        open_folder(own)


def test_without_a_published_split_it_is_drawn_by_video_and_said(filmed: Path, own: Path) -> None:
    manifest = open_folder(filmed).manifest
    drawn = drawn_split([clip_id(n) for n in range(1, 5)], seed=0)
    assert dict(manifest.table.select("video", "split").unique().iter_rows()) == drawn
    assert "split by video with seed 0 (2 train, 1 val, 1 test), for none is published" in manifest.assumed[0]
    said = calot("data", "stats", filmed, cwd=filmed.parent).stdout.splitlines()[0]
    assert "assumed: split by video with seed 0" in said
    told = json.loads(calot("data", "stats", filmed, "--json", cwd=filmed.parent).stdout)
    assert told["understood"]["assumed"] == list(manifest.assumed)
    (own / "dataset.json").write_text('{"split_seed": 5}')
    other = open_folder(own).manifest
    assert "seed 5" in other.assumed[0]
    assert other.hash != manifest.hash


def test_a_split_of_ones_own_is_taken_whole_or_refused(own: Path) -> None:
    lines = ["video,split", *(f"{clip_id(n)},{'val' if n == 3 else 'train'}" for n in range(1, 5))]
    (own / "splits.csv").write_text("\n".join(lines) + "\n")
    manifest = open_folder(own).manifest
    assert set(manifest.split("val").videos) == {clip_id(3)}
    assert manifest.assumed == ()
    (own / "splits.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(CalotError, match=f"no row of video {clip_id(4)}"):
        open_folder(own)


def test_train_and_test_as_published_in_folders_of_their_own(own: Path, tmp_path: Path) -> None:
    root = tmp_path / "published"
    for number in range(1, 5):
        part = root / ("test" if number == 4 else "train")
        for kind, name in (("videos", f"{clip_id(number)}.mp4"), ("labels", clip_id(number))):
            (part / kind).mkdir(parents=True, exist_ok=True)
            shutil.move(own / kind / name, part / kind / name)
    (root / "test" / "labels" / "metadata.csv").write_text("video_name\nx\n")
    manifest = open_folder(root).manifest
    assert set(manifest.split("test").videos) == {clip_id(4)}
    assert len(set(manifest.split("val").videos)) == 1
    assert manifest.assumed[0].startswith("val is taken from train/: split by video with seed 0 (2 train, 1 val)")
    assert manifest.table["image"][0].startswith("train/videos/")


def test_clips_end_on_the_rated_frame_and_step_by_seconds(filmed: Path) -> None:
    manifest = open_folder(filmed).manifest
    how = {"protocol": Keyframes(), "rule": ClipRule(length=4), "label_rule": CentreLabel()}
    table = build_clips(manifest, split="val", training=False, **how)
    assert len(table) == 18
    assert table.clip_frame_numbers[1].tolist() == [60, 90, 120, 150]


def test_confidences_are_each_videos_own(filmed: Path) -> None:
    assert set(open_folder(filmed).reader.confidences(filmed).values()) == {CONFIDENCES}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("frame_id", "frame", 'column "frame_id" is missing'),
        ("\n150,", "\n151,", r"line 3: frame_id is \"151\"; need a multiple of 150 from 0"),
        ("\n150,", "\n0,", "frame_id 0 is in two rows"),
        ("\n150,1", "\n150,2", r"line 3: c1_rater1 is \"2\"; need a vote, 0 or 1"),
        ("\n150,1", "\n150,", "line 3: c1_rater1 is empty; need a vote"),
        ("\n150,1", "\n150,nan", 'line 3: c1_rater1 is "nan"'),
    ],
)
def test_votes_that_cannot_be_are_refused_with_their_line(own: Path, old: str, new: str, message: str) -> None:
    path = own / "labels" / clip_id(1) / "frame.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(CalotError, match=message):
        open_folder(own)


def test_a_recording_that_ends_before_its_last_rated_frame_is_refused(own: Path) -> None:
    from challenge_folders import film

    film(own / "videos" / f"{clip_id(1)}.mp4", video=1, seconds=60)
    with pytest.raises(CalotError, match=r"frame_id 1800 is rated, and the recording of .* has no such frame \(6 like"):
        open_folder(own)


def test_what_is_not_there_is_left_out_and_said(own: Path) -> None:
    (own / "videos" / f"{clip_id(1)}.mp4").unlink()
    shutil.rmtree(own / "labels" / clip_id(2))
    manifest = open_folder(own).manifest
    assert set(manifest.videos) == {clip_id(3), clip_id(4)}
    assert manifest.assumed[1:] == ("1 videos have no recording here", "1 videos have no labels here")
    assert "1 videos have no recording here" in str(Understood.of(open_folder(own)))


def test_verify_notes_sizes_and_finds_what_is_missing(own: Path) -> None:
    done = json.loads(calot("data", "verify", own, "--json", cwd=own).stdout)
    assert done["findings"] == []
    assert any("train with frames.mixed_sizes=True" in note["message"] for note in done["notes"])
    write_sages_labels(own, 1, frames=RATED[:-1])
    (own / "labels" / clip_id(2) / "video.csv").unlink()
    found = json.loads(calot("data", "verify", own, "--json", cwd=own).stdout)["findings"]
    assert sorted(f["message"].split(": ", 1)[1][:24] for f in found) == [
        "17 rated frames; the cha",
        "not found. Give the fold",
    ]


def test_a_hospitals_own_folder_in_the_layout_keeps_its_own_name(own: Path) -> None:
    for number in range(1, 5):
        (own / "labels" / clip_id(number)).rename(own / "labels" / f"case {number}")
        (own / "videos" / f"{clip_id(number)}.mp4").rename(own / "videos" / f"case {number}.mp4")
    assert open_folder(own).manifest.dataset == "own"
