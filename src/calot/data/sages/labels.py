"""What both years of the SAGES CVS challenge share: three raters' votes on each of a clip's frames, their confidence.

`labels/<video>/frame.csv` has `frame_id` (from 0, 30 per second, a row every 5 s) and `c1_rater1` ... `c3_rater3`;
`video.csv` beside it `confidence_rater1` ... 3 (the organisers' code, SAIIL/CVS_challenge_code).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from calot.criteria import COLUMNS
from calot.data import cells
from calot.data.declared import Declared
from calot.data.manifest import Manifest, completed
from calot.data.numbering import FrameNumbering
from calot.data.splitting import VideoSplit
from calot.errors import CalotError
from calot.identity import hidden_file, video_id

LABELS, FRAME_TABLE, VIDEO_TABLE = "labels", "frame.csv", "video.csv"
PER_SECOND, RATED_EVERY, ROWS = 30.0, 150, 18
RATERS = (1, 2, 3)
_VOTES = {f"vote{r}_{c}": f"{letter}_rater{r}" for r in RATERS for letter, c in COLUMNS["sages"].items()}
_REMEDY = "Download the labels again."


def label_folders(root: Path) -> dict[str, Path]:
    """Video -> its folder of labels. Raises CalotError for a folder whose name cannot be an id."""
    found: dict[str, Path] = {}
    for folder in sorted((root / LABELS).iterdir()) if (root / LABELS).is_dir() else ():
        if folder.is_dir() and not hidden_file(folder.name):
            try:
                found[video_id(folder.name)] = folder
            except ValueError as error:
                raise CalotError(f"{folder}: its name {error}. Give it another.") from None
    return found


def has_labels(root: Path) -> bool:
    """Whether a folder has the challenge's tables, by names alone."""
    return any((folder / FRAME_TABLE).is_file() for folder in _folders(root / LABELS))


def sages_votes(folder: Path, *, video: str) -> pl.DataFrame:
    """The votes on one video: `video, frame` and `vote<rater>_<criterion>`, criteria by name."""
    path = folder / FRAME_TABLE
    rows = cells.read_cells(path, needed=("frame_id", *_VOTES.values()), remedy=_REMEDY)
    numbers = cells.whole_numbers(rows, "frame_id")
    off = (numbers % RATED_EVERY != 0).fill_null(True)
    if rows.height and bool((numbers % RATED_EVERY == 1).fill_null(False).all()):
        raise CalotError(f"{path}: frame_id begins with {numbers[0]}, and counts from 0. Take 1 off each.")
    need = f"a multiple of {RATED_EVERY} from 0 (30 per second, a row every 5 s)"
    cells.refuse_cells(rows.with_columns(off=off), pl.col("off"), "frame_id", path=path, need=need, remedy=_REMEDY)
    for name in _VOTES.values():
        cells.refuse_cells(rows, ~pl.col(name).is_in(["0", "1"]), name, path=path, need="a vote, 0 or 1")
    if numbers.is_duplicated().any():
        raise CalotError(f"{path}: frame_id {numbers.filter(numbers.is_duplicated())[0]} is in two rows. {_REMEDY}")
    votes = {ours: pl.col(theirs).cast(pl.Int8) for ours, theirs in _VOTES.items()}
    return rows.select(video=pl.lit(video), frame=numbers, **votes)


def read_confidences(folder: Path) -> tuple[float, ...]:
    """How sure each rater was of a video, 0 to 1."""
    path, names = folder / VIDEO_TABLE, [f"confidence_rater{r}" for r in RATERS]
    rows = cells.read_cells(path, needed=names, remedy=_REMEDY)
    if rows.height != 1:
        raise CalotError(f"{path}: {rows.height} rows; a video has one. {_REMEDY}")
    found = []
    for name in names:
        value = cells.decimals(rows, name, path=path)[0]
        if value is None or not 0 <= value <= 1:
            raise CalotError(f"{path}, line 2: {name} is {rows[name][0]}; need a number from 0 to 1. {_REMEDY}")
        found.append(float(value))
    return tuple(found)


@dataclass(frozen=True)
class Recorded:
    """The sampled frames (`video, frame, image`) of a folder, how they are numbered, and how its videos are split."""

    seen: pl.DataFrame
    numbering: FrameNumbering
    split: VideoSplit


def sages_manifest(root: Path, recorded: Recorded, *, folders: dict[str, Path], year: int) -> Manifest:
    """Votes joined to frames. Videos without labels or without a recording are left out, which the manifest says.

    Raises CalotError where a rated frame is not there.
    """
    there = set(recorded.seen["video"].to_list())
    videos = [video for video in folders if video in there]
    if not videos:
        raise CalotError(f"{root}: no video has both labels and a recording. Names are those of {LABELS}/.")
    votes = pl.concat([sages_votes(folders[video], video=video) for video in videos])
    lost = votes.join(recorded.seen, on=["video", "frame"], how="anti")
    if lost.height:
        video, frame = lost.select("video", "frame").row(0)
        raise CalotError(
            f"{folders[video] / FRAME_TABLE}: frame_id {frame} is rated, and the recording of {video} has no such "
            f"frame ({lost.height} like it). Download the recording again."
        )
    split = [recorded.split.of[video] for video in votes["video"].to_list()]
    rows = votes.with_columns(split=pl.Series(split, dtype=pl.String))
    table = cells.labelled_frames(recorded.seen, rows, path=root / LABELS)
    table = table.with_columns(dataset=pl.lit(_name(root, videos, year=year)))
    assumed = [recorded.split.assumed] if recorded.split.assumed else []
    assumed += [f"{n} videos have no {what} here" for n, what in _left_out(folders, there) if n]
    return Manifest(completed(table), recorded.numbering, source=str(root / LABELS), assumed=tuple(assumed))


def sages_confidences(root: Path) -> dict[str, tuple[float, ...]]:
    """The raters' confidence of each labelled video."""
    return {video: read_confidences(folder) for video, folder in label_folders(root).items()}


def sages_findings(root: Path) -> Iterator[str]:
    """Videos that are not rated on 18 frames, and what is wrong with their confidences."""
    for video, folder in label_folders(root).items():
        count = sages_votes(folder, video=video).height if (folder / FRAME_TABLE).is_file() else 0
        if count != ROWS:
            yield f"{folder}: {count} rated frames; the challenge has {ROWS} in each, every 5 s of 90"
        try:
            read_confidences(folder)
        except CalotError as error:
            yield str(error)


def _folders(folder: Path) -> list[Path]:
    return [f for f in folder.iterdir() if f.is_dir()] if folder.is_dir() else []


def _left_out(folders: dict[str, Path], there: set[str]) -> list[tuple[int, str]]:
    return [(len(folders.keys() - there), "recording"), (len(there - folders.keys()), "labels")]


def _name(root: Path, videos: list[str], *, year: int) -> str:
    """The challenge's, where every video is named by a UUID and the owner says nothing else."""
    declared = Declared.of(root)
    return f"sages-{year}" if declared.name is None and all(map(_is_uuid, videos)) else declared.dataset(root)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
