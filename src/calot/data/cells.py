"""CSV tables that people write, read strictly: every cell as text, every error with its line."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from calot.data.numbering import FrameNumbering
from calot.errors import CalotError, first_line, nearest_name
from calot.identity import split_name, video_ids, whole_number
from calot.reading import LARGEST_TABLE, read_plain

LARGEST_NUMBER = 2**31 - 1
SPLITS_FILE = "splits.csv"
#: Frame numbers by which a time may be off from rounding: 0.04 s is frame 1 at 25 per second.
_OFF = 0.01
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read_cells(path: Path, *, needed: Iterable[str], remedy: str) -> pl.DataFrame:
    """Columns of text, spaces around cells left out; an empty cell is null.

    Raises CalotError where the file is not a CSV with commas, and for a missing or duplicate column.
    """
    if not path.is_file():
        raise CalotError(f"{path}: not found. Give the folder that holds {path.name}.")
    try:
        raw = read_plain(path, largest=LARGEST_TABLE)  # not the path: polars would take brackets in it for a pattern
        _require_commas(raw, path=path)
        rows = pl.read_csv(io.BytesIO(raw), infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise CalotError(f"{path}: not a readable CSV table ({reason}). {remedy}") from error
    for name in rows.columns:
        if f"{name}_duplicated_0" in rows.columns:  # polars' own name for the second of two
            raise CalotError(f'{path}: column "{name}" appears twice. Take one out. {remedy}')
    for name in needed:
        if name not in rows.columns:
            raise CalotError(f'{path}: column "{name}" is missing.{nearest_name(name, among=rows.columns)} {remedy}')
    text = pl.all().str.strip_chars()
    return rows.select(pl.when(text != "").then(text))


def separator_of(header: str) -> str | None:
    """What separates the columns of a first line, in words, if not commas; None where commas do."""
    mark = next((m for m in ";\t|" if m in header), None) if "," not in header else None
    return "tabs" if mark == "\t" else f"'{mark}'" if mark else None


def _require_commas(raw: bytes, *, path: Path) -> None:
    found = separator_of(raw.partition(b"\n")[0].decode("utf-8-sig", errors="replace"))
    if found is not None:
        adopt = f"calot data adopt {path.parent} --out DIR"
        raise CalotError(f"{path}: columns are separated by {found}; save the file with commas, or: {adopt}")


def refuse_cells(rows: pl.DataFrame, wrong: pl.Expr, name: str, *, path: Path, need: str, remedy: str = "") -> None:
    """Raise for the first row where `wrong` is true or unknown, with its line in the file."""
    bad = rows.select(pl.arg_where(wrong.fill_null(True))).to_series()
    if len(bad):
        line = int(bad[0]) + 2
        value = rows[name][int(bad[0])]
        shown = "empty" if value is None else f'"{value}"'
        more = f" ({len(bad)} rows like it)" if len(bad) > 1 else ""
        raise CalotError(f"{path}, line {line}: {name} is {shown}; need {need}{more}. Correct the table. {remedy}")


def video_column(rows: pl.DataFrame, name: str, *, path: Path) -> pl.Series:
    """Ids by the one rule for them (`calot.identity`)."""
    return pl.Series(video_ids(rows[name], where=lambda row: f"{path}, line {row + 2}"), dtype=pl.String)


def split_column(rows: pl.DataFrame, videos: pl.Series, *, path: Path) -> pl.Series:
    """`train`, `val` or `test` in each row: from its own column `split`, or from `splits.csv` (video, split) beside."""
    if "split" in rows.columns:
        return _splits(rows, path=path)
    beside = path.with_name(SPLITS_FILE)
    split_of = listed_splits(beside, remedy=f"Or give {path.name} a column split.")
    for row, video in enumerate(videos):
        if video not in split_of:
            raise CalotError(f"{path}, line {row + 2}: {beside.name} has no row of video {video}. Add one.")
    return pl.Series([split_of[video] for video in videos], dtype=pl.String)


def listed_splits(path: Path, *, remedy: str) -> dict[str, str]:
    """Video -> split, from a table with these two columns. Raises CalotError for a video in two splits."""
    listed = read_cells(path, needed=("video", "split"), remedy=remedy)
    split_of: dict[str, str] = {}
    for video, split in zip(video_column(listed, "video", path=path), _splits(listed, path=path), strict=True):
        if split_of.setdefault(video, split) != split:
            raise CalotError(f"{path}: video {video} is in {split_of[video]} and in {split}. Keep it in one of them.")
    return split_of


def _splits(rows: pl.DataFrame, *, path: Path) -> pl.Series:
    names = []
    for row, cell in enumerate(rows["split"]):
        try:
            names.append(split_name(cell or ""))
        except ValueError as error:
            raise CalotError(f"{path}, line {row + 2}: {error} Correct the table.") from None
    return pl.Series(names, dtype=pl.String)


def frame_column(rows: pl.DataFrame, numbering: FrameNumbering, *, path: Path) -> pl.Series:
    """Frame numbers from a column `time` (seconds) or `frame`; null where both are empty."""
    frames = pl.Series([None] * rows.height, dtype=pl.Int64)
    if "frame" in rows.columns:
        frames = whole_numbers(rows, "frame")
        wrong = rows.with_columns(number=frames)
        bad = pl.col("number").is_null() & pl.col("frame").is_not_null()
        refuse_cells(wrong, bad, "frame", path=path, need=f"a whole number from 0 to {LARGEST_NUMBER}")
    if "time" not in rows.columns:
        return frames
    exact = decimals(rows, "time", path=path) * numbering.per_second
    times = exact.round().cast(pl.Int64)
    off = (((exact - times).abs() > _OFF) | (exact < 0)).fill_null(False)
    need = f"seconds from 0 at a whole frame number ({numbering.per_second:g} per second)"
    refuse_cells(rows.with_columns(off=off), pl.col("off"), "time", path=path, need=need)
    both = frames.is_not_null() & times.is_not_null()
    refuse_cells(
        rows.with_columns(both=both), pl.col("both"), "time", path=path, need="an empty cell beside a frame number"
    )
    return frames.zip_with(frames.is_not_null(), times)


def refuse_columns(rows: pl.DataFrame, *, known: Sequence[str], path: Path) -> None:
    """A column that nothing reads may be a misspelt one, whose labels would be lost: it is refused."""
    for name in rows.columns:
        if name not in known:
            raise CalotError(
                f'{path}: nothing reads column "{name}".{nearest_name(name, among=known)} Rename it, or take it out.'
            )


def whole_numbers(rows: pl.DataFrame, name: str) -> pl.Series:
    """Whole numbers from 0, null where a cell holds none."""
    found = (whole_number(cell or "") for cell in rows[name])
    return pl.Series(name, [n if n is not None and n <= LARGEST_NUMBER else None for n in found], dtype=pl.Int64)


def decimals(rows: pl.DataFrame, name: str, *, path: Path) -> pl.Series:
    """Plain decimal numbers, null where a cell is empty. Raises CalotError for any other text, `nan` and `0,5` too."""
    plain = pl.Series([cell is None or _NUMBER.fullmatch(cell) is not None for cell in rows[name]], dtype=pl.Boolean)
    need = "a number with a decimal point, or an empty cell"
    refuse_cells(rows.with_columns(plain=plain), ~pl.col("plain"), name, path=path, need=need)
    return rows[name].cast(pl.Float64)


def labelled_frames(seen: pl.DataFrame, rows: pl.DataFrame, *, path: Path) -> pl.DataFrame:
    """The sampled frames (`video, frame, image`) of the videos that rows name, with labels where a row has them.

    A row without a frame asks for every frame of its video. Raises CalotError for one whose frame is not there, and a
    frame in two rows.
    """
    rows = rows.with_columns(line=pl.int_range(2, pl.len() + 2))
    bare = rows.filter(pl.col("frame").is_null()).drop("frame")
    every = bare.join(seen.select("video", "frame"), on="video", how="left")
    asked = pl.concat([rows.filter(pl.col("frame").is_not_null()), every], how="diagonal")
    lost = asked.join(seen, on=["video", "frame"], how="anti", nulls_equal=False).sort("line")
    if lost.height:
        video, frame, line = lost.select("video", "frame", "line").row(0)
        what = "no frame at all" if frame is None else f"no sampled frame {frame}"
        raise CalotError(f"{path}, line {line}: video {video} has {what}. Correct the row, or sample it.")
    again = asked.filter(pl.struct("video", "frame").is_duplicated()).sort("line")
    if again.height:
        video, frame, line = again.select("video", "frame", "line").row(1)
        raise CalotError(f"{path}, line {line}: frame {frame} of video {video} is in a row already. Take one out.")
    labels = asked.drop("split", "line").with_columns(keyframe=pl.lit(True))
    table = seen.join(rows.select("video", "split").unique(), on="video")
    table = table.join(labels, on=["video", "frame"], how="left")
    return table.with_columns(pl.col("keyframe").fill_null(False))
