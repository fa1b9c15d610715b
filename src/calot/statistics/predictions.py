"""A table of predictions: what `calot metrics`, `calot compare` and every figure are pure functions of."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.errors import CalotError, nearest_name
from calot.provenance.combination import Combination
from calot.statistics import seal
from calot.statistics.schema import (
    COLUMNS,
    COMBINATION_KEY,
    FACTS,
    FINGERPRINT_KEY,
    LABELS,
    LOGITS,
    MANIFEST_KEY,
    PROBABILITIES,
    RATE_KEY,
    SOFT,
    UNKNOWN,
    canonical,
    refuse_holes,
)
from calot.statistics.scores import ScoreRule, as_logits, refuse_probabilities
from calot.statistics.table_files import TableFile, WantedColumns, read_table_file
from calot.writing import whole_file

SOME_LABELS = "some labels are missing, and a missing label is never read as negative; score the others (with_labels)"
NO_LABELS = "no labels: nothing can be scored; a score needs label_<criterion>, 0 or 1, for each frame"

_NAMES = (*COLUMNS, *PROBABILITIES)
_WORDS = {*FACTS, "video"}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a person says about a table that calot did not write: whose columns are which, and what its scores are.

    `columns` gives our name for each of theirs. calot's own tables do not need it and ignore it.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    scores: ScoreRule = field(default_factory=ScoreRule)

    def __post_init__(self) -> None:
        for theirs, ours in self.columns.items():
            if ours not in _NAMES:
                raise CalotError(f"--map {theirs}={ours}: not a column of calot.{nearest_name(ours, among=_NAMES)}")
        double = [name for name in self.columns.values() if list(self.columns.values()).count(name) > 1]
        if double:
            raise CalotError(f"--map: two columns for '{double[0]}'; name one")

    def wanted(self) -> WantedColumns:
        """The columns to read of a file."""
        numeric = frozenset(_NAMES) - _WORDS
        return WantedColumns(
            names=_NAMES, numeric=numeric, whole=frozenset({"frame", "seed", *LABELS}), theirs=self.columns
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Checked predictions of one data set, split and protocol; rows sorted by seed, video and frame number.

    `frame` may hold the columns in any order and as text: construction checks it (`schema.canonical`) and raises
    CalotError, so no unchecked `Predictions` exists. `fingerprint` names the run's resolved experiment, `manifest_hash`
    the frames it was scored on, `frames_per_second` how many frame numbers make a second (None: unknown).
    `combination` says which predictions these are the mean of (None: of one forward pass, or another group's).
    """

    frame: pl.DataFrame
    fingerprint: str = UNKNOWN
    manifest_hash: str = UNKNOWN
    frames_per_second: float | None = None
    source: str = "predictions"
    notes: tuple[str, ...] = ()
    combination: Combination | None = None

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
    def labelled(self) -> bool:
        """Whether every frame has a label of every criterion."""
        return not any(self.frame[name].null_count() for name in LABELS)

    def with_labels(self) -> Predictions:
        """Only the frames that have labels of every criterion, with a note of their number; itself where all, or none,
        have."""
        whole = self.frame.drop_nulls(list(LABELS))
        if whole.height in (0, self.frame.height):
            return self
        note = (
            f"{whole.height:,} of {self.frame.height:,} frames have labels of all criteria; the others are not scored"
        )
        return replace(self, frame=whole, notes=(*self.notes, note))

    @cached_property
    def labels(self) -> NDArray[np.int8]:
        """Majority of raters, 0 or 1, (n, 3). Raises CalotError where one is missing: it is never read as negative."""
        if not self.labelled:
            some = any(self.frame[name].null_count() < self.frame.height for name in LABELS)
            raise CalotError(f"{self.source}: {SOME_LABELS if some else NO_LABELS}")
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
        """The distinct seeds in the table, in order; None where a table does not say."""
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

    @property
    def passes(self) -> int | None:
        """Forward passes that one clip cost; None where another group's table does not say."""
        if self.combination is not None:
            return self.combination.passes
        return None if self.fingerprint == UNKNOWN else 1

    @cached_property
    def digest(self) -> str:
        """sha256 over rows and raw scores, without the seed: equal digests are equal predictions, bit for bit."""
        rows = "\n".join(f"{video}\t{frame}" for video, frame in zip(self.videos, self.frames, strict=True))
        scores = (self.logits + np.float32(0)).astype("<f4")  # adding 0 turns -0.0 into 0.0
        return hashlib.sha256(rows.encode() + b"\n\n" + scores.tobytes()).hexdigest()

    def by_seed(self) -> tuple[Predictions, ...]:
        """One table per seed; all must hold the same frames with the same labels."""
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
        """Write parquet, sealed with a digest, at once or not at all."""
        metadata = {FINGERPRINT_KEY: self.fingerprint, MANIFEST_KEY: self.manifest_hash, seal.KEY: seal.BLANK}
        if self.frames_per_second is not None:
            metadata[RATE_KEY] = repr(self.frames_per_second)
        if self.combination is not None:
            metadata[COMBINATION_KEY] = json.dumps(self.combination.to_json())
        held = io.BytesIO()
        self.frame.write_parquet(held, metadata=metadata)
        with whole_file(Path(path)) as part:
            part.write_bytes(seal.sealed(held.getvalue()))
        return Path(path)


def same_rows(a: Predictions, b: Predictions) -> str | None:
    """None when both have the same (video, frame) rows with the same labels, else the first difference in words."""
    rows = [set(zip(p.videos.tolist(), p.frames.tolist(), strict=True)) for p in (a, b)]
    if rows[0] != rows[1]:
        only = [sorted(rows[0] - rows[1]), sorted(rows[1] - rows[0])]
        example = (only[0] or only[1])[0]
        return (
            f"{len(only[0])} rows only in the first and {len(only[1])} only in the second, "
            f"such as video {example[0]!r} frame {example[1]}"
        )
    if not (a.labelled and b.labelled):
        return None if a.labelled == b.labelled else "one has labels and the other has none"
    for column, criterion in enumerate(a.criteria):
        bad = np.flatnonzero(a.labels[:, column] != b.labels[:, column])
        if len(bad):
            return (
                f"label_{criterion} differs in {len(bad)} rows, such as video "
                f"{str(a.videos[bad[0]])!r} frame {a.frames[bad[0]]} "
                f"({a.labels[bad[0], column]} and {b.labels[bad[0], column]})"
            )
    return None


def require_same_facts(tables: Sequence[Predictions], *, refusal: str) -> None:
    """Raises CalotError beginning with `refusal` where two tables differ in data set, split, protocol or manifest; what
    a table does not say is not held against it."""
    first = tables[0]
    for table in tables[1:]:
        for name in ("dataset", "split", "protocol", "manifest_hash"):
            values = getattr(first, name), getattr(table, name)
            if UNKNOWN not in values and values[0] != values[1]:
                raise CalotError(
                    f"{refusal}: {name} is {values[0]!r} in {first.source} and {values[1]!r} in {table.source}; "
                    "score both on the same frames under the same protocol"
                )


def load_predictions(path: Path, *, reading: Reading | None = None) -> Predictions:
    """Read calot's parquet, or any group's CSV, TSV, Excel sheet or parquet.

    Raises CalotError naming file, column, row, value and remedy.

    A table of another group needs `video, frame, logit_<criterion>` (or `prob_<criterion>`), and to be scored
    `label_<criterion>`. Without a `reading`, scores that look like probabilities under `logit_*` are refused.
    """
    told = reading or Reading()
    path = Path(path)
    file = read_table_file(path, wanted=told.wanted())
    ours = file.metadata.get(FINGERPRINT_KEY, UNKNOWN) != UNKNOWN
    frame, said = (file.frame, ()) if ours else as_logits(file.frame, scores=told.scores, source=str(path))
    _require_known(frame, file=file, source=str(path))
    if not ours:
        refuse_holes(frame, source=str(path))
    made = Predictions(
        frame=frame,
        fingerprint=file.metadata.get(FINGERPRINT_KEY, UNKNOWN),
        manifest_hash=file.metadata.get(MANIFEST_KEY, UNKNOWN),
        frames_per_second=_rate(file.metadata.get(RATE_KEY), source=str(path)),
        source=str(path),
        notes=(*file.notes, *said, *_missing(frame)),
        combination=_combination(file.metadata.get(COMBINATION_KEY), source=str(path)),
    )
    if not ours and told.scores.kind is None:
        refuse_probabilities(made.frame, among=file.frame.columns, source=str(path))
    return made


def _require_known(frame: pl.DataFrame, *, file: TableFile, source: str) -> None:
    """Raises CalotError where a column that every table needs is missing, naming the nearest that was not read."""
    for name in ("video", "frame", *LOGITS):
        if name not in frame.columns:
            other = name.replace("logit_", "prob_")
            either = f"'{name}'" if other == name else f"'{name}' (or '{other}')"
            nearest = nearest_name(name, among=file.others) if file.others else ""
            raise CalotError(
                f"{source}: column {either} is missing.{nearest} Needed are video, frame, {', '.join(LOGITS)} (or "
                f"prob_<criterion>) and, to be scored, {', '.join(LABELS)}; --map THEIRS={name} takes a column of "
                "another name"
            )


def _combination(text: str | None, *, source: str) -> Combination | None:
    if text is None:
        return None
    try:
        stated = json.loads(text)
    except (ValueError, RecursionError):
        stated = text
    return Combination.from_json(stated, where=source)


def _rate(text: str | None, *, source: str) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise CalotError(f"{source}: {RATE_KEY} is {text!r} in its metadata, expected frames per second above 0")
    return value


def _missing(table: pl.DataFrame) -> tuple[str, ...]:
    """What a table lacks and what follows from it."""
    if not any(name in table.columns for name in LABELS):
        return ()
    missing = [name for name in SOFT if name not in table.columns]
    return (f"no rater means ({', '.join(missing)}): scores against the rater mean are undefined",) if missing else ()
