"""Trivial baselines: what a model must beat before its score says anything about what it has learnt.

Each sees one thing of the scored frame alone (its time, its colours, 8 x 8 pixels) and is fitted on train. None sees
another frame, how long the operation will last, or a label of the split that it scores.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.data.clips import ClipTable
from calot.data.store import FrameStore
from calot.progress import Advance

Array = NDArray[np.float64]
FORMAT = 1  # of what a baseline does: another number is another baseline
BINS, SIDE = 8, 8  # grey levels per colour channel; rows and columns of a thumbnail
_BLOCK = 16 << 20  # bytes of frames read at once
_GRID = 64  # colours are counted on at most so many rows and columns of a frame

NO_TRAIN = "train holds no frame with labels of all criteria"


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenFrames:
    """The scored frames of a split, one row each: seconds since the recording began (frame number / frames per second)
    and since the operation's first scored frame `(n, 2)`, shares of pixels per colour channel and bin `(n, 24)`, mean
    colours of 8 x 8 fields in grey levels `(n, 192)`.
    """

    seconds: Array
    colours: NDArray[np.float32]
    fields: NDArray[np.float32]

    @classmethod
    def of(cls, table: ClipTable, *, store: FrameStore, advance: Advance | None = None) -> SeenFrames:
        """Read each scored frame once, in blocks of at most 16 MB."""
        count = len(table)
        colours = np.empty((count, 3 * BINS), dtype=np.float32)
        fields = np.empty((count, 3 * SIDE * SIDE), dtype=np.float32)
        step = max(1, _BLOCK // int(np.prod(store.shape[1:])))
        for start in range(0, count, step):
            here = slice(start, start + step)
            frames = store.read(table.row[here])
            colours[here], fields[here] = colour_shares(frames), mean_fields(frames)
            if advance is not None:
                advance(min(start + step, count), count)
        return cls(seconds=seconds_passed(table), colours=colours, fields=fields)


def seconds_passed(table: ClipTable) -> Array:
    """`(n, 2)`: since the recording began, and since the operation's first scored frame. Both are known as they pass;
    the share of the operation's whole length is not."""
    names, video = np.unique(table.videos, return_inverse=True)
    first = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(first, video, table.frame_numbers)
    frames = np.stack([table.frame_numbers, table.frame_numbers - first[video]], axis=1)
    return np.asarray(frames / table.frames_per_second, dtype=np.float64)


def colour_shares(frames: NDArray[np.uint8]) -> Array:
    """Share of a frame's pixels in each of 8 equal bins of each RGB channel: `(n, 3, h, w)` -> `(n, 24)`."""
    rows, columns = (max(1, -(-side // _GRID)) for side in frames.shape[2:])
    seen = frames[:, :, ::rows, ::columns]
    pixels = int(np.prod(seen.shape[2:]))
    cell = BINS * np.arange(3 * len(seen)).reshape(len(seen), 3, 1, 1) + (seen // (256 // BINS))
    counts = np.bincount(cell.ravel(), minlength=3 * BINS * len(seen))
    return np.asarray(counts.reshape(len(seen), 3 * BINS) / pixels, dtype=np.float64)


def mean_fields(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean of each of 8 x 8 fields of each channel, in grey levels: `(n, 3, h, w)` -> `(n, 192)`."""
    down, across = (_averaging(side) for side in frames.shape[2:])
    means = down @ frames.astype(np.float32) @ across.T
    return np.asarray(means.reshape(len(frames), 3 * SIDE * SIDE), dtype=np.float32)


def _averaging(side: int) -> NDArray[np.float32]:
    """`(8, side)`: row i averages the i-th of eight equal parts of a line of pixels."""
    edges = np.arange(SIDE + 1) * side / SIDE
    pixel = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.asarray(np.clip(overlap, 0, None) / (side / SIDE), dtype=np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrivialLogits:
    """Raw logits `(n, k)` float32 of one baseline; `undefined` says why a criterion's are all 0 and mean nothing."""

    logits: NDArray[np.float32]
    undefined: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class TrivialBaseline(ABC):
    """One thing that is seen of a frame, and how scores are made of it."""

    name: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def seen(self, frames: SeenFrames) -> Array:
        """What it sees: `(n, d)`."""

    @abstractmethod
    def one(self, train: Array, positive: NDArray[np.bool_], scored: Array) -> Array:
        """Logits `(m,)` of one criterion, of which train has positives and negatives `(n,)`."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what it does."""
        return hashlib.sha256(f"{FORMAT} {self!r}".encode()).hexdigest()

    def score(self, train: SeenFrames, labels: NDArray[np.int8], scored: SeenFrames) -> TrivialLogits:
        """Fit on train's labels `(n, k)` (those with -1 are left out) and score other frames."""
        known = (labels >= 0).all(axis=1)
        if not known.any():
            none = np.zeros((len(scored.seconds), len(CRITERIA)), dtype=np.float32)
            return TrivialLogits(logits=none, undefined=dict.fromkeys(CRITERIA, NO_TRAIN))
        seen, others, labels = self.seen(train)[known], self.seen(scored), labels[known]
        logits, undefined = np.zeros((len(others), len(CRITERIA)), dtype=np.float32), {}
        for k, name in enumerate(CRITERIA):
            positive = labels[:, k] == 1
            if positive.all() or not positive.any():
                undefined[name] = f"train has no {'negative' if positive.all() else 'positive'} label of it"
            else:
                logits[:, k] = self.one(seen, positive, others)
        return TrivialLogits(logits=logits, undefined=undefined)


@dataclass(frozen=True, kw_only=True)
class _Logistic(TrivialBaseline):
    """Logistic regression on standardised features; `c` is scikit-learn's C, fixed and never tuned on val."""

    c: float

    def one(self, train: Array, positive: NDArray[np.bool_], scored: Array) -> Array:
        from sklearn.linear_model import LogisticRegression

        mean, spread = train.mean(axis=0), train.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        model = LogisticRegression(C=self.c, tol=1e-6, max_iter=5000).fit((train - mean) / spread, positive)
        return np.asarray(model.decision_function((scored - mean) / spread), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class OperationTime(_Logistic):
    """The seconds since the recording began and since the first scored frame, never the share of the whole length."""

    name: ClassVar[str] = "time"
    title: ClassVar[str] = "time in the operation"
    c: float = 1.0

    def seen(self, frames: SeenFrames) -> Array:
        return frames.seconds


@dataclass(frozen=True, kw_only=True)
class ColourHistogram(_Logistic):
    """How much of the frame has which colour, without where."""

    name: ClassVar[str] = "colours"
    title: ClassVar[str] = "colour histogram"
    c: float = 0.1

    def seen(self, frames: SeenFrames) -> Array:
        return frames.colours.astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Thumbnail(_Logistic):
    """The frame as 8 x 8 coloured fields."""

    name: ClassVar[str] = "thumbnail"
    title: ClassVar[str] = "8 x 8 thumbnail"
    c: float = 0.01

    def seen(self, frames: SeenFrames) -> Array:
        return frames.fields.astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class LabelPrior(TrivialBaseline):
    """The share of positives among train's frames as long after the recording began, in bins of equally many frames.

    logit((positives + prevalence) / (frames + 1)), so that an empty bin says the prevalence.
    """

    name: ClassVar[str] = "prior"
    title: ClassVar[str] = "label prior by time"
    bins: int = 10

    def seen(self, frames: SeenFrames) -> Array:
        return frames.seconds[:, :1]

    def one(self, train: Array, positive: NDArray[np.bool_], scored: Array) -> Array:
        edges = np.unique(np.quantile(train[:, 0], np.linspace(0, 1, self.bins + 1)[1:-1]))
        here, there = (np.searchsorted(edges, times[:, 0], side="right") for times in (train, scored))
        frames = np.bincount(here, minlength=len(edges) + 1)
        positives = np.bincount(here, weights=positive, minlength=len(edges) + 1)
        share = (positives + positive.mean()) / (frames + 1)
        return np.asarray(np.log(share / (1 - share))[there], dtype=np.float64)


#: Every baseline that a page shows, in its order.
BASELINES: tuple[TrivialBaseline, ...] = (OperationTime(), LabelPrior(), ColourHistogram(), Thumbnail())
