"""Read the Endoscapes2023 layout: `all_metadata.csv`, `*_vids.txt`, `<split>/<video>_<frame>.jpg`, `semseg/`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from calot.criteria import COLUMNS, CRITERIA
from calot.data.manifest import RATERS, SPLITS, Manifest
from calot.errors import CalotError, first_line, nearest_name
from calot.reading import read_text

METADATA = "all_metadata.csv"
MASKS = "semseg"

#: A folder that holds this file was rendered, not filmed.
PHANTOM_MARK = "phantom.json"

_LETTERS = {criterion: letter for letter, criterion in COLUMNS["endoscapes"].items()}
_ANNOTATORS = tuple(f"cvs_annotator_{r}" for r in RATERS)
_NEEDED = ("vid", "frame", *COLUMNS["endoscapes"], "is_ds_keyframe", *_ANNOTATORS)
_LARGEST = 2**31 - 1


def read_endoscapes(root: Path, *, synthetic_masks: Path | None = None) -> Manifest:
    """Read the manifest of an Endoscapes folder; images need not be there yet.

    `synthetic_masks` is a folder of `<video>_<frame>.png` beside the human ones, which win where both exist.
    Off keyframes the table holds fills: the nearest keyframe's value, which looks into the future, and 0 before the
    first and after the last keyframe.
    """
    if not root.is_dir():
        raise CalotError(f"{root}: no such folder. Give the folder that holds {METADATA}.")
    path = root / METADATA
    rows = _read_table(path)
    _require_columns(rows, path=path)
    splits = _read_splits(root)
    dataset = "phantom" if (root / PHANTOM_MARK).is_file() else "endoscapes"
    table = _parse(rows, path=path)
    table = _place(table, splits=splits, path=path, root=root)
    table = table.with_columns(
        dataset=pl.lit(dataset),
        image=pl.format("{}/{}_{}.jpg", "split", "video", "frame"),
    )
    table = _attach_masks(table, root=root, dataset=dataset, synthetic=synthetic_masks)
    return Manifest(table, source=str(path))


def _read_table(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise CalotError(
            f"{path}: not found. Give the folder that holds {METADATA} (the unpacked archive's top folder)."
        )
    try:
        return pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise CalotError(
            f"{path}: not a readable CSV table ({first_line(error)}). Unpack the archive again."
        ) from error


def _require_columns(rows: pl.DataFrame, *, path: Path) -> None:
    for name in _NEEDED:
        if f"{name}_duplicated_0" in rows.columns:  # polars' own name for the second of two
            raise CalotError(f'{path}: column "{name}" stands twice. Take one out, or unpack the archive again.')
    for name in _NEEDED:
        if name not in rows.columns:
            raise CalotError(f'{path}: column "{name}" is missing.{nearest_name(name, among=rows.columns)}')


def _read_splits(root: Path) -> dict[str, str]:
    """Video -> split, from the `*_vids.txt` that are there."""
    split_of: dict[str, str] = {}
    for split in SPLITS:
        path = root / f"{split}_vids.txt"
        if not path.exists():
            continue
        videos = _read_videos(path)
        if not videos:
            raise CalotError(
                f"{path}: lists no video. Unpack the archive again, or remove it where {split} is not here."
            )
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
    """One id a line, written as a float: `1.000000000e+00`."""
    try:
        lines = read_text(path, encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CalotError(f"{path}: not a readable text file ({reason}). Unpack the archive again.") from error
    videos = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = float(line)
        except ValueError:
            value = float("nan")
        if not (0 <= value <= _LARGEST and value == int(value)):
            raise CalotError(
                f'{path}, line {number}: "{line.strip()}" is not a video number. Write one whole number a line.'
            )
        videos.append(str(int(value)))
    return videos


def _parse(rows: pl.DataFrame, *, path: Path) -> pl.DataFrame:
    rows = rows.select(pl.col(_NEEDED).str.strip_chars()).with_columns(
        keyframe=pl.col("is_ds_keyframe").str.to_lowercase()
    )
    _refuse(rows, ~pl.col("keyframe").is_in(["true", "false"]), "is_ds_keyframe", path=path, need="True or False")
    keyframe = pl.col("keyframe") == "true"
    for name in ("vid", "frame"):
        number = pl.col(name).cast(pl.Float64, strict=False)
        whole = number.is_between(0, _LARGEST) & (number == number.floor())
        _refuse(rows, ~whole, name, path=path, need=f"a whole number from 0 to {_LARGEST}")
    for name in COLUMNS["endoscapes"]:
        value = pl.col(name).cast(pl.Float64, strict=False)
        wanted = value.is_between(0, 1) & value.is_not_nan()
        _refuse(rows, ~wanted, name, path=path, need="a label from 0 to 1 (an unknown label is not a negative)")
    votes = {}
    for rater, name in zip(RATERS, _ANNOTATORS, strict=True):
        cell = pl.when(keyframe).then(pl.col(name))
        groups = cell.str.extract_groups(r"^\[\s*([01])(?:\.0*)?\s*,\s*([01])(?:\.0*)?\s*,\s*([01])(?:\.0*)?\s*\]$")
        empty = pl.col(name).fill_null("") == ""
        need = 'three votes such as "[0, 1, 0]" on a keyframe'
        _refuse(rows, keyframe & groups.struct.field("1").is_null(), name, path=path, need=need)
        _refuse(rows, ~keyframe & ~empty, name, path=path, need="nothing off a keyframe")
        for place, criterion in enumerate(CRITERIA, start=1):
            votes[f"vote{rater}_{criterion}"] = groups.struct.field(str(place)).cast(pl.Int8)
    soft = {c: pl.col(_LETTERS[c]).cast(pl.Float64) for c in CRITERIA}
    return rows.select(
        video=pl.col("vid").cast(pl.Float64).cast(pl.Int64).cast(pl.String),
        frame=pl.col("frame").cast(pl.Float64).cast(pl.Int64),
        keyframe=keyframe,
        **{f"soft_{c}": value.cast(pl.Float32) for c, value in soft.items()},
        **{f"label_{c}": (value >= 0.5).cast(pl.Int8) for c, value in soft.items()},
        **votes,
    )


def _refuse(rows: pl.DataFrame, wrong: pl.Expr, name: str, *, path: Path, need: str) -> None:
    """Raise for the first row where `wrong` holds or cannot be told, with its line in the file."""
    bad = rows.select(pl.arg_where(wrong.fill_null(True))).to_series()
    if len(bad):
        line = int(bad[0]) + 2
        value = rows[name][int(bad[0])]
        shown = "empty" if value in (None, "") else f'"{value}"'
        more = f" ({len(bad)} rows like it)" if len(bad) > 1 else ""
        raise CalotError(
            f"{path}, line {line}: {name} is {shown}; need {need}{more}. Mend the table or unpack it again."
        )


def _place(table: pl.DataFrame, *, splits: dict[str, str], path: Path, root: Path) -> pl.DataFrame:
    """Give each row its split. Rows of unlisted videos are dropped only where a split's list is not there at all."""
    listed = pl.DataFrame(
        {"video": list(splits), "split": list(splits.values())}, schema={"video": pl.String, "split": pl.String}
    )
    absent = listed.join(table, on="video", how="anti")
    if absent.height:
        raise CalotError(
            f"{path}: no frame of video {absent['video'][0]}, which {absent['split'][0]}_vids.txt lists. "
            f"Unpack the archive again, or take the video out of the list."
        )
    placed = table.join(listed, on="video", how="left")
    stray = placed.filter(pl.col("split").is_null())
    if stray.height and all((root / f"{s}_vids.txt").is_file() for s in SPLITS):
        raise CalotError(
            f"{path}: video {stray['video'][0]} is in no *_vids.txt. Add it to one of them or take its rows out."
        )
    return placed.filter(pl.col("split").is_not_null())


def _attach_masks(table: pl.DataFrame, *, root: Path, dataset: str, synthetic: Path | None) -> pl.DataFrame:
    human = "phantom" if dataset == "phantom" else "human"
    found = dict.fromkeys(_names(root / MASKS), (MASKS, human))
    if synthetic is not None:
        folder = synthetic if synthetic.is_absolute() else root / synthetic
        if not folder.is_dir():
            raise CalotError(
                f"{folder}: no such folder of synthetic masks. Leave it out, or give the folder of <video>_<frame>.png."
            )
        inside = folder.is_relative_to(root)
        place = folder.relative_to(root).as_posix() if inside else folder.resolve().as_posix()
        found = dict.fromkeys(_names(folder), (place, "synthetic")) | found
    stems = list(found)
    masks = pl.DataFrame(
        {
            "stem": [s.removesuffix(".png") for s in stems],
            "mask": [f"{found[s][0]}/{s}" for s in stems],
            "mask_source": [found[s][1] for s in stems],
        },
        schema={"stem": pl.String, "mask": pl.String, "mask_source": pl.String},
    )
    return table.with_columns(stem=pl.format("{}_{}", "video", "frame")).join(masks, on="stem", how="left")


def _names(folder: Path) -> Iterable[str]:
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".png"))
