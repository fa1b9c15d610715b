"""The columns of a table of predictions, and the checks that make a broken table impossible to score."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.errors import CalotError, nearest_name
from calot.identity import split_name, video_ids

UNKNOWN = "unknown"
LOGITS = tuple(f"logit_{criterion}" for criterion in CRITERIA)
LABELS = tuple(f"label_{criterion}" for criterion in CRITERIA)
SOFT = tuple(f"soft_{criterion}" for criterion in CRITERIA)
PROBABILITIES = tuple(f"prob_{criterion}" for criterion in CRITERIA)
FACTS = ("dataset", "split", "protocol")

#: Column -> type of the canonical table, in the order of the file; `soft_*` and `seed` may be null (unknown).
COLUMNS: dict[str, type[pl.DataType]] = {
    **dict.fromkeys((*FACTS, "video"), pl.String),
    "frame": pl.Int64,
    **dict.fromkeys(LOGITS, pl.Float32),
    **dict.fromkeys(LABELS, pl.Int8),
    **dict.fromkeys(SOFT, pl.Float32),
    "seed": pl.Int64,
}

Numbers = NDArray[np.float64]


def canonical(table: pl.DataFrame, *, source: str) -> pl.DataFrame:
    """Check a table as read and bring it to `COLUMNS`, sorted by seed, video and frame number.

    Strings are parsed, so a CSV read as text and a typed parquet meet the same checks. Raises CalotError naming the
    file, the column, the data row (counted from 1, header excluded) and the remedy.
    """
    if table.height == 0:
        raise CalotError(f"{source}: no rows; a table of predictions holds one row a scored frame")
    columns = {name: pl.Series(name, [UNKNOWN] * table.height) for name in FACTS}
    columns |= {name: _one_value(table[name], source=source) for name in FACTS if name in table.columns}
    columns["split"] = _split(columns["split"], source=source)
    columns["video"] = _videos(_required(table, "video", source=source), source=source)
    columns["frame"] = _integers(_required(table, "frame", source=source), source=source)
    for logit, probability in zip(LOGITS, PROBABILITIES, strict=True):
        columns[logit] = _logits(table, logit=logit, probability=probability, source=source)
    for name in LABELS:
        columns[name] = _labels(_required(table, name, source=source), source=source)
    for name in SOFT:
        columns[name] = _soft(table, name=name, source=source)
    columns["seed"] = _seeds(table, source=source)
    result = pl.DataFrame([columns[name].alias(name).cast(kind) for name, kind in COLUMNS.items()])
    _refuse_duplicates(result, source=source)
    return result.sort(["seed", "video", "frame"], nulls_last=True)


def numbers(column: pl.Series, *, source: str) -> Numbers:
    """A column as float64; a cell that is no number is an error, an empty one becomes NaN for the caller to judge."""
    if column.dtype == pl.String:
        return np.array(
            [_number(cell, row=row, field=column.name, source=source) for row, cell in enumerate(column, 1)]
        )
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean or column.dtype == pl.Null):
        raise CalotError(f"{source}: column '{column.name}' has type {column.dtype}, expected numbers")
    return np.array(column.cast(pl.Float64).fill_null(float("nan")).to_numpy(), dtype=np.float64)


def _number(cell: str | None, *, row: int, field: str, source: str) -> float:
    text = (cell or "").strip().lower()
    if text in ("", "nan", "na", "null", "none"):
        return float("nan")
    if text in ("true", "false"):
        return float(text == "true")
    try:
        if "_" in text or not text.isascii():  # float() also reads 1_000 and full-width digits
            raise ValueError(text)
        return float(text)
    except ValueError:
        raise CalotError(f"{source}: {field} in data row {row} is {cell!r}, not a number") from None


def _required(table: pl.DataFrame, name: str, *, source: str) -> pl.Series:
    if name in table.columns:
        return table[name]
    raise CalotError(
        f"{source}: column '{name}' is missing.{nearest_name(name, among=table.columns)} "
        f"Needed are video, frame, {', '.join(LOGITS)} (or prob_<criterion>), {', '.join(LABELS)}"
    )


def _first(bad: NDArray[np.bool_]) -> int:
    """Data row, counted from 1, of the first bad cell."""
    return int(np.flatnonzero(bad)[0]) + 1


def _one_value(column: pl.Series, *, source: str) -> pl.Series:
    text = column.cast(pl.String).fill_null(UNKNOWN)
    values = text.unique(maintain_order=True).to_list()
    if len(values) > 1:
        raise CalotError(
            f"{source}: column '{column.name}' holds {values[:4]}; a result names one "
            f"{column.name}: one file a {column.name}"
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
    values = numbers(column, source=source)
    with np.errstate(invalid="ignore"):
        bad = ~(np.isfinite(values) & (values == np.floor(values)) & (values >= 0) & (values < 2**53))
    if bad.any():
        row = _first(bad)
        raise CalotError(
            f"{source}: {column.name} in data row {row} is {values[row - 1]:g}; expected a whole number >= 0"
        )
    return pl.Series(column.name, values.astype(np.int64))


def _logits(table: pl.DataFrame, *, logit: str, probability: str, source: str) -> pl.Series:
    if logit not in table.columns and probability in table.columns:
        values = _logit_of(table[probability], source=source)
    else:
        values = numbers(_required(table, logit, source=source), source=source)
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    bad = ~np.isfinite(narrow)
    if bad.any():
        row = _first(bad)
        raise CalotError(
            f"{source}: {logit} in data row {row} is {values[row - 1]:g}; a score must be a finite float32. "
            "Mend the model or drop the run: a frame without a score is never left out in silence"
        )
    return pl.Series(logit, narrow)


def _logit_of(column: pl.Series, *, source: str) -> Numbers:
    """log(p / (1 - p)); exactly 0 or 1 has no logit and is an error, because saturated scores lost their order."""
    values = numbers(column, source=source)
    bad = ~((values > 0) & (values < 1))
    if bad.any():
        row = _first(bad)
        raise CalotError(
            f"{source}: {column.name} in data row {row} is {values[row - 1]:g}; a probability must "
            f"lie strictly between 0 and 1 "
            "(exactly 0 or 1 is a saturated score whose order is lost): store raw logits as "
            f"{column.name.replace('prob_', 'logit_')} instead"
        )
    return np.asarray(np.log(values) - np.log1p(-values), dtype=np.float64)


def _labels(column: pl.Series, *, source: str) -> pl.Series:
    values = numbers(column, source=source)
    bad = ~((values == 0) | (values == 1))
    if bad.any():
        row = _first(bad)
        value = values[row - 1]
        why = (
            "missing; a missing label is never read as negative: give it or drop the row"
            if np.isnan(value)
            else f"{value:g}"
        )
        raise CalotError(
            f"{source}: {column.name} in data row {row} is {why}; expected 0 or 1 (the majority of raters)"
        )
    return pl.Series(column.name, values.astype(np.int8))


def _soft(table: pl.DataFrame, *, name: str, source: str) -> pl.Series:
    if name not in table.columns or table[name].is_null().all():
        return pl.Series(name, [None] * table.height, dtype=pl.Float32)
    values = numbers(table[name], source=source)
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        row = _first(bad)
        raise CalotError(
            f"{source}: {name} in data row {row} is {values[row - 1]:g}; expected the raters' mean "
            f"in [0, 1] in every row, "
            "or no such column"
        )
    return pl.Series(name, values.astype(np.float32))


def _seeds(table: pl.DataFrame, *, source: str) -> pl.Series:
    if "seed" not in table.columns or table["seed"].is_null().all():
        return pl.Series("seed", [None] * table.height, dtype=pl.Int64)
    return _integers(table["seed"], source=source)


def _refuse_duplicates(table: pl.DataFrame, *, source: str) -> None:
    double = table.select("video", "frame", "seed").is_duplicated().to_numpy()
    if double.any():
        row = _first(double)
        video, frame, seed = table.select("video", "frame", "seed").row(row - 1)
        raise CalotError(
            f"{source}: video {video!r}, frame {frame}, seed {seed} stands twice (first in data row {row}); "
            "one row a scored frame and seed"
        )
