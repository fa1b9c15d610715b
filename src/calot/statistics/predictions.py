"""A table of predictions: what `calot metrics`, `calot compare` and every figure are pure functions of."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.schema import LABELS, LOGITS, PROBABILITIES, SOFT, UNKNOWN, canonical
from calot.writing import whole_file

FINGERPRINT_KEY = "calot.fingerprint"
MANIFEST_KEY = "calot.manifest_hash"


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Checked predictions of one data set, split and protocol; rows sorted by seed, video and frame number.

    `frame` may hold the columns in any order and as text: construction checks it (`schema.canonical`) and raises
    CalotError, so no unchecked `Predictions` exists. `fingerprint` names the run's resolved experiment, `manifest_hash`
    the frames it was scored on.
    """

    frame: pl.DataFrame
    fingerprint: str = UNKNOWN
    manifest_hash: str = UNKNOWN
    source: str = "predictions"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", canonical(self.frame, source=self.source))

    @property
    def criteria(self) -> tuple[str, ...]:
        """Names along the second axis of `logits`, `labels` and `soft`."""
        return CRITERIA

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """Raw scores, (n, 3)."""
        return np.ascontiguousarray(self.frame.select(LOGITS).to_numpy(), dtype=np.float32)

    @cached_property
    def labels(self) -> NDArray[np.int8]:
        """Majority of raters, 0 or 1, (n, 3)."""
        return np.ascontiguousarray(self.frame.select(LABELS).to_numpy(), dtype=np.int8)

    @cached_property
    def soft(self) -> NDArray[np.float32] | None:
        """Rater means in [0, 1], (n, 3), or None where the table does not hold all three."""
        if any(self.frame[name].null_count() for name in SOFT):
            return None
        return np.ascontiguousarray(self.frame.select(SOFT).to_numpy(), dtype=np.float32)

    @cached_property
    def videos(self) -> NDArray[np.str_]:
        """Video id of each row, (n,)."""
        return np.array(self.frame["video"].to_list(), dtype=np.str_)

    @cached_property
    def frames(self) -> NDArray[np.int64]:
        """Frame number of each row, (n,)."""
        return np.array(self.frame["frame"].to_numpy(), dtype=np.int64)

    @cached_property
    def seeds(self) -> tuple[int | None, ...]:
        """The distinct seeds in the table, in order; None where a table does not tell."""
        return tuple(self.frame["seed"].unique().sort(nulls_last=True).to_list())

    @property
    def dataset(self) -> str:
        return str(self.frame["dataset"][0])

    @property
    def split(self) -> str:
        return str(self.frame["split"][0])

    @property
    def protocol(self) -> str:
        return str(self.frame["protocol"][0])

    @cached_property
    def digest(self) -> str:
        """sha256 over rows and raw scores, without the seed: equal digests are equal predictions, bit for bit."""
        rows = "\n".join(f"{video}\t{frame}" for video, frame in zip(self.videos, self.frames, strict=True))
        scores = (self.logits + np.float32(0)).astype("<f4")  # adding 0 turns -0.0 into 0.0
        return hashlib.sha256(rows.encode() + b"\n\n" + scores.tobytes()).hexdigest()

    def by_seed(self) -> tuple[Predictions, ...]:
        """One table a seed; all must hold the same frames with the same labels."""
        if len(self.seeds) == 1:
            return (self,)
        parts = tuple(
            replace(self, frame=self.frame.filter(pl.col("seed").eq_missing(pl.lit(seed, dtype=pl.Int64))))
            for seed in self.seeds
        )
        for part in parts[1:]:
            same = same_rows(parts[0], part)
            if same is not None:
                raise CalotError(f"{self.source}: seeds {parts[0].seeds[0]} and {part.seeds[0]} differ: {same}")
        return parts

    def write(self, path: Path) -> Path:
        """Write parquet at once or not at all: a temporary file beside it, flushed, then moved over."""
        metadata = {FINGERPRINT_KEY: self.fingerprint, MANIFEST_KEY: self.manifest_hash}
        with whole_file(Path(path)) as part, part.open("wb") as stream:  # a stream: polars hides the cause of a failure
            self.frame.write_parquet(stream, metadata=metadata)
        return Path(path)


def same_rows(a: Predictions, b: Predictions) -> str | None:
    """None when both hold the same (video, frame) rows with the same labels, else the first difference in words."""
    rows = [set(zip(p.videos.tolist(), p.frames.tolist(), strict=True)) for p in (a, b)]
    if rows[0] != rows[1]:
        only = [sorted(rows[0] - rows[1]), sorted(rows[1] - rows[0])]
        example = (only[0] or only[1])[0]
        return (
            f"{len(only[0])} rows only in the first and {len(only[1])} only in the second, "
            f"such as video {example[0]!r} frame {example[1]}"
        )
    for column, criterion in enumerate(a.criteria):
        bad = np.flatnonzero(a.labels[:, column] != b.labels[:, column])
        if len(bad):
            return (
                f"label_{criterion} differs in {len(bad)} rows, such as video "
                f"{str(a.videos[bad[0]])!r} frame {a.frames[bad[0]]} "
                f"({a.labels[bad[0], column]} and {b.labels[bad[0], column]})"
            )
    return None


def load_predictions(path: Path) -> Predictions:
    """Read a parquet file of calot or a CSV of any group; raises CalotError naming file, column, row, value and remedy.

    A CSV needs `video, frame, logit_<criterion>` (or `prob_<criterion>`, strictly between 0 and 1) and
    `label_<criterion>`.
    """
    path = Path(path)
    if not path.is_file():
        raise CalotError(f"{path}: no such file; expected a .parquet or .csv of predictions")
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise CalotError(f"{path}: unknown ending '{path.suffix}'; expected .parquet or .csv")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CalotError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix.lower() == ".csv":
        table, metadata = _read_csv(raw, source=str(path)), {}
    else:
        table, metadata = _read_parquet(raw, source=str(path)), _parquet_metadata(raw, source=str(path))
    return Predictions(
        frame=table,
        fingerprint=metadata.get(FINGERPRINT_KEY, UNKNOWN),
        manifest_hash=metadata.get(MANIFEST_KEY, UNKNOWN),
        source=str(path),
        notes=_notes(table),
    )


def _notes(table: pl.DataFrame) -> tuple[str, ...]:
    pairs = zip(LOGITS, PROBABILITIES, strict=True)
    converted = [
        probability for logit, probability in pairs if logit not in table.columns and probability in table.columns
    ]
    missing = [name for name in SOFT if name not in table.columns]
    notes = []
    if converted:
        notes.append(f"probabilities converted to logits by log(p / (1 - p)): {', '.join(converted)}")
    if missing:
        notes.append(f"no rater means ({', '.join(missing)}): scores against the rater mean are undefined")
    return tuple(notes)


def _read_csv(raw: bytes, *, source: str) -> pl.DataFrame:
    """Every cell as text; the standard reader, so that a malformed line is named and nothing is guessed."""
    try:
        rows = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True))
    except UnicodeDecodeError as error:
        raise CalotError(f"{source}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from error
    except csv.Error as error:
        raise CalotError(f"{source}: malformed CSV ({error})") from error
    rows = [row for row in rows if row]
    if not rows:
        raise CalotError(f"{source}: the file is empty; the first line names the columns")
    header = [name.strip() for name in rows[0]]
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise CalotError(f"{source}: columns are separated by ';' or tab; save the file with commas")
    double = sorted({name for name in header if header.count(name) > 1})
    if double:
        raise CalotError(f"{source}: column '{double[0]}' stands twice in the first line")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(header):
            raise CalotError(f"{source}: data row {number} has {len(row)} cells, the first line {len(header)}")
    cells = list(zip(*rows[1:], strict=True)) or [()] * len(header)
    return pl.DataFrame(
        {name: pl.Series(name, list(column), dtype=pl.String) for name, column in zip(header, cells, strict=True)}
    )


def _read_parquet(raw: bytes, *, source: str) -> pl.DataFrame:
    try:
        return pl.read_parquet(io.BytesIO(raw))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise CalotError(
            f"{source}: not a readable parquet file ({error}); write it again or save it as CSV"
        ) from error


def _parquet_metadata(raw: bytes, *, source: str) -> dict[str, str]:
    try:
        return pl.read_parquet_metadata(io.BytesIO(raw))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise CalotError(f"{source}: its metadata cannot be read ({error}); write it again") from error
