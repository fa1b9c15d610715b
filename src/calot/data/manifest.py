"""The manifest: one row per sampled frame, with its labels, its raters and where its pixels and mask are.

Everything that trains or scores starts from a manifest, and every result shows its hash.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.data.numbering import FrameNumbering
from calot.errors import CalotError, nearest_name
from calot.identity import SPLITS
from calot.writing import whole_file

SOFT = tuple(f"soft_{c}" for c in CRITERIA)
LABELS = tuple(f"label_{c}" for c in CRITERIA)
_VOTE = re.compile(r"vote(\d+)_\w+", re.ASCII)

#: Columns of every manifest, beside those of its raters (`vote<number>_<criterion>`), of whom there may be none.
SCHEMA: dict[str, pl.DataType] = {
    "dataset": pl.String(),
    "split": pl.String(),
    "video": pl.String(),
    "frame": pl.Int64(),
    "image": pl.String(),
    "keyframe": pl.Boolean(),
    "mask": pl.String(),
    "mask_source": pl.String(),
    **dict.fromkeys(SOFT, pl.Float32()),
    **dict.fromkeys(LABELS, pl.Int8()),
}

#: What the hash covers, and the raters' votes. Paths and masks stay out, so that runs with and without masks compare.
HASHED = ("dataset", "split", "video", "frame", "keyframe", *SOFT, *LABELS)

#: A frame without a label is unlabelled, not negative; the same holds for a single criterion.
_NULLABLE = ("mask", "mask_source", *SOFT, *LABELS)

#: Data sets that are known by their content, whose names are part of the hash. A folder's own name is not: moving
#: or renaming it does not change the data.
PUBLISHED = ("endoscapes", "phantom")

_PER_SECOND, _STEP = "calot.frames_per_second", "calot.step"

#: How far the mean of the raters may be from the stored value (a table may have rounded 2/3 to 0.67).
MEAN_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class Manifest:
    """Frames of one data set, checked when made and sorted by split, video (as a number) and frame.

    `source` names the file that the table came from, for messages; `keyframe` is what a person looked at and labelled
    (or asks to have scored), the other frames are there to be seen in clips. `assumed` says what the files left open
    and the reader settled, such as a split that nobody published; each is printed wherever the folder is opened.
    """

    table: pl.DataFrame = field(repr=False)
    numbering: FrameNumbering
    source: str = "manifest"
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", _checked(self.table, source=self.source))

    def __len__(self) -> int:
        return self.table.height

    @cached_property
    def splits(self) -> tuple[str, ...]:
        present = set(self.table["split"].unique().to_list())
        return tuple(s for s in SPLITS if s in present)

    @cached_property
    def dataset(self) -> str:
        return str(self.table["dataset"][0])

    @cached_property
    def raters(self) -> tuple[int, ...]:
        """Numbers of the raters whose votes are there."""
        return raters_of(self.table.columns)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of frames, labels and raters: the same for equal content anywhere, with or without masks."""
        digest = hashlib.sha256()
        named = pl.col("dataset") if self.dataset in PUBLISHED else pl.lit("").alias("dataset")
        table = self.table.with_columns(named)
        for name in (*HASHED, *votes_of(self.raters)):
            column = table[name]
            digest.update(f"{name}:{len(column)}:".encode())
            if column.dtype == pl.String:
                digest.update("\0".join(column.to_list()).encode())
            elif column.dtype == pl.Float32:
                digest.update(column.fill_null(float("nan")).to_numpy().astype("<f4").tobytes())
            else:
                digest.update(column.cast(pl.Int64).fill_null(-1).to_numpy().astype("<i8").tobytes())
        if self.numbering.seconds_apart != 1:
            digest.update(f"seconds apart: {self.numbering.seconds_apart!r}".encode())
        return digest.hexdigest()

    def with_table(self, table: pl.DataFrame) -> Manifest:
        """Other rows or columns of the same data set."""
        return replace(self, table=table)

    def split(self, name: str) -> Manifest:
        """Keep one split. A split that is not there is an error, never another split."""
        if name not in self.splits:
            known = "" if name in SPLITS else f' "{name}" is not a split.'
            raise CalotError(
                f'{self.source}: split "{name}" has no frames.{known}{nearest_name(name, among=self.splits)}'
            )
        return self.with_table(self.table.filter(pl.col("split") == name))

    @property
    def videos(self) -> list[str]:
        return self.table["video"].to_list()

    @cached_property
    def frames(self) -> NDArray[np.int64]:
        return self.table["frame"].to_numpy()

    @cached_property
    def keyframes(self) -> NDArray[np.bool_]:
        return self.table["keyframe"].to_numpy()

    @cached_property
    def labels(self) -> NDArray[np.int8]:
        """Majority of raters, `(n, k)`; -1 where there is no label."""
        return np.ascontiguousarray(self.table.select(pl.col(LABELS).fill_null(-1)).to_numpy().astype(np.int8))

    @cached_property
    def labelled(self) -> NDArray[np.bool_]:
        """Rows with a label of every criterion, `(n,)`."""
        return np.asarray((self.labels >= 0).all(axis=1))

    @cached_property
    def soft(self) -> NDArray[np.float32]:
        """Rater mean, `(n, k)`; NaN where there is no label."""
        soft = self.table.select(pl.col(SOFT).fill_null(float("nan")))
        return np.ascontiguousarray(soft.to_numpy().astype(np.float32))

    @cached_property
    def votes(self) -> NDArray[np.int8]:
        """Each rater's vote, `(n, rater, k)`; -1 where nobody voted (off keyframes)."""
        names = votes_of(self.raters)
        votes = self.table.select(pl.col(names).fill_null(-1)).to_numpy().astype(np.int8)
        return votes.reshape(len(self), len(self.raters), len(CRITERIA))

    def write(self, path: Path) -> None:
        """Write as parquet: whole or not at all."""
        numbering = {_PER_SECOND: repr(float(self.numbering.per_second)), _STEP: str(self.numbering.step)}
        with whole_file(path) as part, part.open("wb") as stream:
            self.table.write_parquet(stream, metadata=numbering)

    @classmethod
    def load(cls, path: Path) -> Manifest:
        if not path.is_file():
            raise CalotError(f"{path}: no such manifest. Read the data set again to make it.")
        try:
            raw = path.read_bytes()
            table, facts = pl.read_parquet(io.BytesIO(raw)), pl.read_parquet_metadata(io.BytesIO(raw))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise CalotError(f"{path}: not a readable parquet file ({error}). Read the data set again.") from error
        if _PER_SECOND not in facts or _STEP not in facts:
            raise CalotError(f"{path}: does not say how its frames are numbered. Read the data set again.")
        numbering = FrameNumbering(per_second=float(facts[_PER_SECOND]), step=int(facts[_STEP]))
        return cls(table, numbering, source=str(path))


def votes_of(raters: tuple[int, ...]) -> tuple[str, ...]:
    """The columns that hold these raters' votes, rater by rater."""
    return tuple(f"vote{r}_{c}" for r in raters for c in CRITERIA)


def raters_of(columns: list[str]) -> tuple[int, ...]:
    """Numbers of the raters that columns are named after."""
    return tuple(sorted({int(match[1]) for name in columns if (match := _VOTE.fullmatch(name))}))


def _checked(table: pl.DataFrame, *, source: str) -> pl.DataFrame:
    """Bring to the schema, check every row and sort. Raises CalotError naming the first row that is wrong."""
    table = _shaped(table, source=source)
    if table["dataset"].n_unique() > 1:
        raise CalotError(
            f"{source}: data sets {sorted(set(table['dataset']))} in one manifest. Make one manifest each."
        )
    _refuse(table, ~pl.col("split").is_in(SPLITS), "split", source=source, why=f"is none of {SPLITS}")
    _refuse(table, pl.col("frame") < 0, "frame", source=source, why="is negative")
    _check_labels(table, source=source)
    _check_votes(table, source=source)
    _check_unique(table, source=source)
    order = {name: place for place, name in enumerate(SPLITS)}
    return table.sort(
        pl.col("split").replace_strict(order, return_dtype=pl.Int8),
        pl.col("video").cast(pl.Int64, strict=False),
        "video",
        "frame",
    )


def _shaped(table: pl.DataFrame, *, source: str) -> pl.DataFrame:
    votes = votes_of(raters_of(table.columns))
    schema = SCHEMA | dict.fromkeys(votes, pl.Int8())
    for name in schema:
        if name not in table.columns:
            raise CalotError(f'{source}: column "{name}" is missing.{nearest_name(name, among=table.columns)}')
    if table.is_empty():
        raise CalotError(f"{source}: no frames. Check that the table has rows and that they belong to a listed video.")
    try:
        table = table.select(pl.col(name).cast(dtype, strict=True) for name, dtype in schema.items())
    except pl.exceptions.PolarsError as error:
        raise CalotError(f"{source}: a column holds values of another type: {error}") from error
    for name in schema:
        if name not in (*_NULLABLE, *votes):
            _refuse(table, pl.col(name).is_null(), name, source=source, why="is empty")
    return table


def _refuse(table: pl.DataFrame, wrong: pl.Expr, name: str, *, source: str, why: str) -> None:
    bad = table.filter(wrong)
    if bad.height:
        row = bad.row(0, named=True)
        raise CalotError(
            f'{source}: video {row["video"]}, frame {row["frame"]}: {name} "{row[name]}" {why}'
            f"{f' ({bad.height} rows are)' if bad.height > 1 else ''}. Correct the table it was read from."
        )


def _check_labels(table: pl.DataFrame, *, source: str) -> None:
    for soft, label in zip(SOFT, LABELS, strict=True):
        in_range = pl.col(soft).is_between(0, 1) & pl.col(soft).is_not_nan()
        _refuse(table, ~in_range, soft, source=source, why="is not a label between 0 and 1")
        alone = pl.col(soft).is_null() != pl.col(label).is_null()
        _refuse(table, alone, label, source=source, why=f"is a label without {soft}, or the other way round")
        majority = (pl.col(soft) >= 0.5).cast(pl.Int8)
        _refuse(table, pl.col(label) != majority, label, source=source, why=f"is not the majority of {soft}")


def _check_votes(table: pl.DataFrame, *, source: str) -> None:
    """A rater who votes on a keyframe votes on all criteria; the label is the mean of those who voted, at least one."""
    raters = raters_of(table.columns)
    for rater in raters:
        names = [f"vote{rater}_{c}" for c in CRITERIA]
        at_work = pl.any_horizontal(pl.col(names).is_not_null())
        for name in names:
            off = ~pl.col("keyframe") & pl.col(name).is_not_null()
            _refuse(table, off, name, source=source, why="is a vote off keyframes")
            _refuse(table, ~pl.col(name).is_in([0, 1]), name, source=source, why="is not 0 or 1")
        for name in names:
            _refuse(table, at_work & pl.col(name).is_null(), name, source=source, why="is missing on a keyframe")
    for criterion, soft in zip(CRITERIA, SOFT, strict=True):
        if names := [f"vote{r}_{criterion}" for r in raters]:
            nobody = pl.all_horizontal(pl.col(names).is_null()) & pl.col(soft).is_not_null()
            _refuse(table, pl.col("keyframe") & nobody, names[0], source=source, why="is missing on a keyframe")
            apart = (pl.mean_horizontal(names) - pl.col(soft)).abs() > MEAN_TOLERANCE
            why = f"is not the mean of its {len(raters)} raters"
            _refuse(table, pl.col("keyframe") & apart, soft, source=source, why=why)


def _check_unique(table: pl.DataFrame, *, source: str) -> None:
    placed = table.group_by("video").agg(pl.col("split").unique().sort()).filter(pl.col("split").list.len() > 1)
    if placed.height:
        row = placed.sort("video").row(0, named=True)
        raise CalotError(
            f"{source}: video {row['video']} is in two splits, {' and '.join(row['split'])}. Keep it in one of them."
        )
    twice = pl.struct("video", "frame").is_duplicated()
    _refuse(table, twice, "frame", source=source, why="stands in the table more than once")


def completed(table: pl.DataFrame) -> pl.DataFrame:
    """Columns that follow from others, and those that a data set need not have: the label from the rater mean, that
    from the votes, no mask."""
    raters = raters_of(table.columns)
    for criterion, soft, label in zip(CRITERIA, SOFT, LABELS, strict=True):
        votes = [f"vote{r}_{criterion}" for r in raters]
        mean = pl.mean_horizontal(votes) if votes else pl.lit(None)
        if soft not in table.columns:
            table = table.with_columns(mean.cast(pl.Float32).alias(soft))
        if label not in table.columns:
            table = table.with_columns((pl.col(soft) >= 0.5).cast(pl.Int8).alias(label))
    absent = [pl.lit(None, dtype=pl.String).alias(n) for n in ("mask", "mask_source") if n not in table.columns]
    return table.with_columns(absent)
