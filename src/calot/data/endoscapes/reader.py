"""Read the Endoscapes2023 layout: `all_metadata.csv`, `*_vids.txt`, `<split>/<video>_<frame>.jpg`, `semseg/`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.criteria import COLUMNS, CRITERIA
from calot.data.cells import LARGEST_NUMBER, read_cells, refuse_cells, video_column, whole_numbers
from calot.data.declared import DECLARED, Declared
from calot.data.endoscapes.published import NUMBERING, is_endoscapes
from calot.data.filenames import IMAGES, frame_files
from calot.data.manifest import Manifest
from calot.data.maskfolder import masks_below, with_masks
from calot.data.numbering import FrameNumbering, found_numbering
from calot.data.readers import Reader
from calot.errors import CalotError
from calot.identity import SPLITS, video_ids
from calot.reading import read_text

if TYPE_CHECKING:
    from calot.data.verify.finding import CheckedFolder

METADATA = "all_metadata.csv"
MASKS = "semseg"

#: A folder that holds this file was rendered, not filmed.
PHANTOM_MARK = "phantom.json"

RATERS = (1, 2, 3)
_LETTERS = {criterion: letter for letter, criterion in COLUMNS["endoscapes"].items()}
ANNOTATORS = tuple(f"cvs_annotator_{r}" for r in RATERS)
NEEDED = ("vid", "frame", *COLUMNS["endoscapes"], "is_ds_keyframe", *ANNOTATORS)


class EndoscapesReader(Reader):
    """Endoscapes2023 itself, phantoms, and any group's own folder in the same layout."""

    looks_for = f"{METADATA} with *_vids.txt (the Endoscapes layout)"

    def recognises(self, root: Path) -> bool:
        return any((root / name).is_file() for name in (METADATA, *(f"{split}_vids.txt" for split in SPLITS)))

    def manifest(self, root: Path) -> Manifest:
        return read_endoscapes(root)

    def verify(self, root: Path, *, workers: int = 0) -> CheckedFolder:
        from calot.data.verify import verify

        return verify(root, workers=workers)


def read_endoscapes(root: Path) -> Manifest:
    """Read the manifest of a folder in the Endoscapes layout; images need not be there yet.

    Off keyframes the table holds fills: the nearest keyframe's value, which looks into the future, and 0 before the
    first and after the last keyframe. The data set is called Endoscapes where its videos and frames are, phantom where
    it was rendered, and else by the name that `dataset.json` declares or the folder has.
    """
    if not root.is_dir():
        raise CalotError(f"{root}: no such folder. Give the folder that holds {METADATA}.")
    path = root / METADATA
    rows = read_cells(path, needed=NEEDED, remedy=remedy(root))
    splits = _read_splits(root)
    table = _parse(rows, path=path)
    table = _place(table, splits=splits, path=path, root=root)
    declared = Declared.of(root)
    numbering = numbering_of(table["video"].to_list(), table["frame"].to_numpy(), declared=declared, path=path)
    drawn = (root / PHANTOM_MARK).is_file()
    frames = {str(video): list(numbers) for video, numbers in table.group_by("video").agg("frame").iter_rows()}
    dataset = "phantom" if drawn else "endoscapes" if is_endoscapes(frames) else declared.dataset(root)
    table = table.with_columns(dataset=pl.lit(dataset), image=_images(root, table=table))
    masks = masks_below(root / MASKS) if (root / MASKS).is_dir() else {}
    table = with_masks(table, masks, root=root, source="phantom" if drawn else "human")
    return Manifest(table, numbering, source=str(path))


def remedy(root: Path) -> str:
    """What to do about a folder that cannot be read: it is either damaged Endoscapes or a user's own."""
    return f"Unpack the archive again; a folder of your own: calot data adopt {root} --out DIR"


def _read_splits(root: Path) -> dict[str, str]:
    """Video -> split, from the `*_vids.txt` that are there."""
    split_of: dict[str, str] = {}
    for split in SPLITS:
        path = root / f"{split}_vids.txt"
        if not path.exists():
            continue
        videos = _read_videos(path)
        if not videos:
            raise CalotError(f"{path}: lists no video. Remove it where {split} is not here. {remedy(root)}")
        for video in videos:
            if video in split_of:
                where = (
                    f"{split_of[video]}_vids.txt and {path.name}" if split_of[video] != split else f"{path.name} twice"
                )
                raise CalotError(
                    f"{root}: video {video} is in {where}. A video belongs to one split: take one line out."
                )
            split_of[video] = split
    if not split_of:
        raise CalotError(f"{root}: no video is listed in train_vids.txt, val_vids.txt or test_vids.txt.")
    return split_of


def _read_videos(path: Path) -> list[str]:
    """One id per line; the archive writes its numbers as floats: `1.000000000e+00`."""
    try:
        lines = read_text(path, encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CalotError(f"{path}: not a readable text file ({reason}). {remedy(path.parent)}") from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    return video_ids([line for _, line in numbered], where=lambda row: f"{path}, line {numbered[row][0]}")


def _parse(rows: pl.DataFrame, *, path: Path) -> pl.DataFrame:
    refuse = partial(refuse_cells, path=path, remedy=remedy(path.parent))
    rows = rows.with_columns(keyframe=pl.col("is_ds_keyframe").str.to_lowercase(), number=whole_numbers(rows, "frame"))
    refuse(rows, ~pl.col("keyframe").is_in(["true", "false"]), "is_ds_keyframe", need="True or False")
    refuse(rows, pl.col("number").is_null(), "frame", need=f"a whole number from 0 to {LARGEST_NUMBER}")
    keyframe = pl.col("keyframe") == "true"
    for name in COLUMNS["endoscapes"]:
        value = pl.col(name).cast(pl.Float64, strict=False)
        wanted = value.is_between(0, 1) & value.is_not_nan()
        refuse(rows, ~wanted, name, need="a label from 0 to 1 (an unknown label is not a negative)")
    votes = {}
    for rater, name in zip(RATERS, ANNOTATORS, strict=True):
        cell = pl.when(keyframe).then(pl.col(name))
        groups = cell.str.extract_groups(r"^\[\s*([01])(?:\.0*)?\s*,\s*([01])(?:\.0*)?\s*,\s*([01])(?:\.0*)?\s*\]$")
        need = 'three votes such as "[0, 1, 0]" on a keyframe'
        refuse(rows, keyframe & groups.struct.field("1").is_null(), name, need=need)
        refuse(rows, ~keyframe & pl.col(name).is_not_null(), name, need="an empty cell off keyframes")
        for place, criterion in enumerate(CRITERIA, start=1):
            votes[f"vote{rater}_{criterion}"] = groups.struct.field(str(place)).cast(pl.Int8)
    return rows.select(
        video=video_column(rows, "vid", path=path),
        frame=pl.col("number"),
        keyframe=keyframe,
        **{f"soft_{c}": pl.col(_LETTERS[c]).cast(pl.Float64).cast(pl.Float32) for c in CRITERIA},
        **{f"label_{c}": (pl.col(_LETTERS[c]).cast(pl.Float64) >= 0.5).cast(pl.Int8) for c in CRITERIA},
        **votes,
    )


def _place(table: pl.DataFrame, *, splits: dict[str, str], path: Path, root: Path) -> pl.DataFrame:
    """Give each row its split. Rows of unlisted videos are dropped only where a split's list is missing."""
    listed = pl.DataFrame(
        {"video": list(splits), "split": list(splits.values())}, schema={"video": pl.String, "split": pl.String}
    )
    absent = listed.join(table, on="video", how="anti")
    if absent.height:
        raise CalotError(
            f"{path}: no frame of video {absent['video'][0]}, which {absent['split'][0]}_vids.txt lists. "
            f"Take the video out of the list. {remedy(root)}"
        )
    placed = table.join(listed, on="video", how="left")
    stray = placed.filter(pl.col("split").is_null())
    if stray.height and all((root / f"{s}_vids.txt").is_file() for s in SPLITS):
        raise CalotError(
            f"{path}: video {stray['video'][0]} is in no *_vids.txt. Add it to one of them or take its rows out."
        )
    return placed.filter(pl.col("split").is_not_null())


def numbering_of(videos: Sequence[str], frames: NDArray[np.int64], *, declared: Declared, path: Path) -> FrameNumbering:
    """The layout's own numbering, or the declared one. Raises CalotError where the numbers fit neither: every clip
    depends on it, so it is never guessed."""
    per_second = declared.frames_per_second or NUMBERING.per_second
    numbering = found_numbering(videos, frames, per_second=per_second, where=path)
    step = numbering.step
    wanted = declared.seconds_apart or NUMBERING.seconds_apart
    stated = declared.frames_per_second is not None and declared.seconds_apart is None
    if not stated and abs(numbering.seconds_apart - wanted) > 0.02 * wanted:
        raise CalotError(
            f"{path}: frame numbers rise by {step}; the layout counts {per_second:g} per second, so frames {wanted:g} "
            f"s apart are {per_second * wanted:g} apart. Say how they count in {DECLARED}, such as "
            f'{{"frames_per_second": {step}}} for one frame per second, or: calot data adopt {path.parent} --out DIR'
        )
    return numbering


def _images(root: Path, *, table: pl.DataFrame) -> pl.Series:
    """Each frame's file as named in its folder (`001_25.JPG`), or as in the layout if it does not exist yet."""
    there = {split: frame_files(root / split) for split in table["split"].unique().to_list()}
    names = [
        f"{split}/{there[split].get((video, frame), f'{video}_{frame}{IMAGES[0]}')}"
        for split, video, frame in table.select("split", "video", "frame").iter_rows()
    ]
    return pl.Series("image", names, dtype=pl.String)
