"""The columns of a table of predictions, and the checks that make a broken table impossible to score."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.errors import CalotError, nearest_name, quoted
from calot.identity import split_name, video_ids

UNKNOWN = "unknown"
LOGITS = tuple(f"logit_{criterion}" for criterion in CRITERIA)
LABELS = tuple(f"label_{criterion}" for criterion in CRITERIA)
SOFT = tuple(f"soft_{criterion}" for criterion in CRITERIA)
PROBABILITIES = tuple(f"prob_{criterion}" for criterion in CRITERIA)
FACTS = ("dataset", "split", "protocol")

#: Metadata of calot's parquet files; `seal.KEY` is one more.
FINGERPRINT_KEY, MANIFEST_KEY, RATE_KEY = "calot.fingerprint", "calot.manifest_hash", "calot.frames_per_second"
COMBINATION_KEY = "calot.combination"

#: calot 0.1 knew only tables whose frame numbers count 25 per second, and did not record it.
RATE_OF_0_1 = 25.0

#: Column -> type of the canonical table, in the order of the file. `soft_*` and `seed` may be null (unknown),
#: and so may `label_*`: predictions without labels are legal.
COLUMNS: dict[str, type[pl.DataType]] = {
    **dict.fromkeys((*FACTS, "video"), pl.String),
    "frame": pl.Int64,
    **dict.fromkeys(LOGITS, pl.Float32),
    **dict.fromkeys(LABELS, pl.Int8),
    **dict.fromkeys(SOFT, pl.Float32),
    "seed": pl.Int64,
}

#: What programs write for a missing number.
_LOST = ("", "nan", "na", "n/a", "#n/a", "<na>", "null", "none")

Numbers = NDArray[np.float64]


def canonical(table: pl.DataFrame, *, source: str) -> pl.DataFrame:
    """Check a table of raw logits and bring it to `COLUMNS`, sorted by seed, video and frame number.

    Strings are parsed, so a CSV read as text and a typed parquet meet the same checks. Raises CalotError naming the
    file, the column, the data row (counted from 1, header excluded) and the remedy.
    """
    if table.height == 0:
        raise CalotError(f"{source}: no rows; a table of predictions holds one row per scored frame")
    columns = {name: pl.Series(name, [UNKNOWN] * table.height) for name in FACTS}
    columns |= {name: _one_value(table[name], source=source) for name in FACTS if name in table.columns}
    columns["split"] = _split(columns["split"], source=source)
    columns["video"] = _videos(_required(table, "video", source=source), source=source)
    columns["frame"] = _integers(_required(table, "frame", source=source), source=source)
    for name in LOGITS:
        columns[name] = _logits(_required(table, name, source=source), source=source)
    for name in LABELS:
        columns[name] = _labels(table, name=name, source=source)
    for name in SOFT:
        columns[name] = _soft(table, name=name, source=source)
    columns["seed"] = _seeds(table, source=source)
    result = pl.DataFrame([columns[name].alias(name).cast(kind) for name, kind in COLUMNS.items()])
    _refuse_duplicates(result, source=source)
    return result.sort(["seed", "video", "frame"], nulls_last=True)


def numbers(column: pl.Series, *, source: str) -> Numbers:
    """A column as float64; a non-number is an error, an empty cell becomes NaN for the caller to judge."""
    kind = column.dtype
    if kind in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        return np.array(
            [_number(cell, row=row, field=column.name, source=source) for row, cell in enumerate(column, 1)]
        )
    if not (kind.is_numeric() or kind == pl.Boolean or kind == pl.Null):
        raise CalotError(f"{source}: column '{column.name}' has type {kind}, expected numbers")
    return np.array(column.cast(pl.Float64).fill_null(float("nan")).to_numpy(), dtype=np.float64)


def is_empty(column: pl.Series) -> bool:
    """Whether no cell of a column holds anything: nulls, NaN, empty text and words for a lost value."""
    if column.dtype == pl.String:
        return all((cell or "").strip().lower() in _LOST for cell in column)
    lost = column.is_null() | column.is_nan() if column.dtype.is_float() else column.is_null()
    return bool(lost.fill_null(value=True).all())


def _number(cell: str | None, *, row: int, field: str, source: str) -> float:
    text = (cell or "").strip().lower()
    if text in _LOST:
        return float("nan")
    if text in ("true", "false"):
        return float(text == "true")
    try:
        if "_" in text or not text.isascii():  # float() also reads 1_000 and full-width digits
            raise ValueError(text)
        return float(text)
    except ValueError:
        raise CalotError(f"{source}: {field} in data row {row} is {quoted(cell or '')}, not a number") from None


def _required(table: pl.DataFrame, name: str, *, source: str) -> pl.Series:
    if name in table.columns:
        return table[name]
    raise CalotError(
        f"{source}: column '{name}' is missing.{nearest_name(name, among=table.columns)} "
        f"Needed are video, frame, {', '.join(LOGITS)} (or prob_<criterion>), {', '.join(LABELS)}; "
        f"--map THEIRS={name} takes a column of another name"
    )


def first_row(bad: NDArray[np.bool_]) -> int:
    """Data row, counted from 1, of the first bad cell."""
    return int(np.flatnonzero(bad)[0]) + 1


def _one_value(column: pl.Series, *, source: str) -> pl.Series:
    kind = column.dtype
    if not (kind == pl.String or kind.is_numeric() or kind in (pl.Categorical, pl.Enum, pl.Null)):
        raise CalotError(f"{source}: column '{column.name}' has type {kind}; write its name as text")
    text = column.cast(pl.String).fill_null(UNKNOWN).str.strip_chars().replace("", UNKNOWN)
    values = text.unique(maintain_order=True).to_list()
    if len(values) > 1:
        raise CalotError(
            f"{source}: column '{column.name}' holds {', '.join(map(quoted, values[:4]))}; a result names one "
            f"{column.name}: one file per {column.name}"
        )
    return text


def _split(column: pl.Series, *, source: str) -> pl.Series:
    """`train`, `val` or `test` whatever the capitals, so that no opening of test goes uncounted; or unknown."""
    name = str(column[0])
    if name == UNKNOWN:
        return column
    try:
        return pl.Series("split", [split_name(name)] * len(column))
    except ValueError as error:
        raise CalotError(f"{source}: {error} Rename it, or leave the column out.") from None


def _videos(column: pl.Series, *, source: str) -> pl.Series:
    """Ids as `identity.video_ids` reads them: 1, 001 and 1.0 are one operation, and "nan" is none."""
    kind = column.dtype
    if not (kind == pl.String or kind.is_numeric() or kind in (pl.Categorical, pl.Enum, pl.Null)):
        raise CalotError(f"{source}: column 'video' has type {kind}; write video ids as text or whole numbers")
    cells = column.cast(pl.String).to_list()
    return pl.Series("video", video_ids(cells, where=lambda row: f"{source}: data row {row + 1}"), dtype=pl.String)


def _integers(column: pl.Series, *, source: str) -> pl.Series:
    if column.dtype == pl.Boolean:
        raise CalotError(f"{source}: column '{column.name}' has type {column.dtype}, expected whole numbers")
    values = numbers(column, source=source)
    with np.errstate(invalid="ignore"):
        bad = ~(np.isfinite(values) & (values == np.floor(values)) & (values >= 0) & (values < 2**53))
    if bad.any():
        row = first_row(bad)
        raise CalotError(
            f"{source}: {column.name} in data row {row} is {values[row - 1]:g}; expected a whole number >= 0"
        )
    return pl.Series(column.name, values.astype(np.int64))


def _logits(column: pl.Series, *, source: str) -> pl.Series:
    values = numbers(column, source=source)
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    bad = ~np.isfinite(narrow)
    if bad.any():
        row = first_row(bad)
        raise CalotError(
            f"{source}: {column.name} in data row {row} is {values[row - 1]:g}; a score must be a finite float32. "
            "Fix the model or drop the run: a frame without a score is never silently left out"
        )
    return pl.Series(column.name, narrow)


def refuse_holes(table: pl.DataFrame, *, source: str) -> None:
    """Raises CalotError where a column of labels or rater means is missing beside others, or is empty in some rows.

    calot's own tables may hold frames without labels; another group's lost them on the way. Neither is ever a negative.
    """
    for names in (LABELS, SOFT):
        held = [name for name in names if name in table.columns and not is_empty(table[name])]
        for name in names if held else ():
            column = _required(table, name, source=source)
            bad = np.isnan(numbers(column, source=source))
            if bad.any():
                raise CalotError(
                    f"{source}: {name} in data row {first_row(bad)} is missing; a missing label is never read as "
                    "negative: give it or drop the row"
                )


def _labels(table: pl.DataFrame, *, name: str, source: str) -> pl.Series:
    values = _optional(table, name=name, source=source)
    bad = ~((values == 0) | (values == 1) | np.isnan(values))
    if bad.any():
        row = first_row(bad)
        why = f"{values[row - 1]:g}; expected 0 or 1 (the majority of raters)"
        raise CalotError(f"{source}: {name} in data row {row} is {why}")
    return pl.Series(name, values, nan_to_null=True).cast(pl.Int8)


def _soft(table: pl.DataFrame, *, name: str, source: str) -> pl.Series:
    values = _optional(table, name=name, source=source)
    bad = ~((values >= 0) & (values <= 1) | np.isnan(values))
    if bad.any():
        row = first_row(bad)
        raise CalotError(
            f"{source}: {name} in data row {row} is {values[row - 1]:g}; expected the raters' mean in [0, 1]"
        )
    return pl.Series(name, values, nan_to_null=True).cast(pl.Float32)


def _optional(table: pl.DataFrame, *, name: str, source: str) -> Numbers:
    """A column's numbers, all NaN where there is no such column."""
    if name not in table.columns:
        return np.full(table.height, np.nan)
    return numbers(table[name], source=source)


def _seeds(table: pl.DataFrame, *, source: str) -> pl.Series:
    if "seed" not in table.columns or is_empty(table["seed"]):
        return pl.Series("seed", [None] * table.height, dtype=pl.Int64)
    return _integers(table["seed"], source=source)


def _refuse_duplicates(table: pl.DataFrame, *, source: str) -> None:
    double = table.select("video", "frame", "seed").is_duplicated().to_numpy()
    if double.any():
        row = first_row(double)
        video, frame, seed = table.select("video", "frame", "seed").row(row - 1)
        raise CalotError(
            f"{source}: video {video!r}, frame {frame}, seed {seed} appears twice (first in data row {row}); "
            "one row per scored frame and seed"
        )
