"""Clips: which frames a labelled frame is seen with, under a named protocol, and what it is trained on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from calot.config.component import Component
from calot.config.fields import Count
from calot.data.manifest import FRAME_STEP, Manifest
from calot.errors import CalotError, nearest_name


@dataclass(frozen=True)
class ClipRule(Component):
    """`length` frames, `stride` seconds apart; `pad_to` repeats the oldest frame until the clip is that long."""

    length: Count = 16
    stride: Count = 1
    pad_to: Count | None = None

    def __post_init__(self) -> None:
        if self.pad_to is not None and self.pad_to < self.length:
            raise CalotError(
                f"ClipRule.pad_to={self.pad_to} is less than length={self.length}. Use None or a larger one."
            )

    @property
    def frames(self) -> int:
        """How many frames a clip has in the end."""
        return self.pad_to or self.length

    def labelled_place(self, protocol: Protocol) -> int:
        """Where the labelled frame sits in the clip, counted from 0."""
        return self.frames - self.length + protocol.before(self.length)

    def shortened(self, factor: float) -> ClipRule:
        """The same rule for clips `factor` times as long: 16 frames become 8, 5 padded to 16 become 3 padded to 8."""
        length = max(1, math.floor(self.length * factor + 0.5))
        pad_to = None if self.pad_to is None else max(length, math.floor(self.pad_to * factor + 0.5))
        return replace(self, length=length, pad_to=pad_to)


class Protocol(Component, ABC):
    """Which frames count, and where the labelled frame sits in its clip."""

    name: ClassVar[str]
    causal: ClassVar[bool]
    window: ClassVar[str]

    @abstractmethod
    def scored(self, manifest: Manifest) -> NDArray[np.bool_]:
        """Which rows of a manifest count."""

    @abstractmethod
    def before(self, length: int) -> int:
        """How many of the clip's frames come before the labelled one."""


@dataclass(frozen=True)
class Keyframes(Protocol):
    """Keyframes only, each seen with its past: the convention of SwinCVS, LG-CVS, SV2LSTG and PercEVA."""

    name: ClassVar[str] = "keyframes"
    causal: ClassVar[bool] = True
    window: ClassVar[str] = "past frames at 1 fps ending on the labelled frame, padded at the start"

    def scored(self, manifest: Manifest) -> NDArray[np.bool_]:
        return manifest.keyframes

    def before(self, length: int) -> int:
        return length - 1


@dataclass(frozen=True)
class AllFrames(Protocol):
    """Every 1-fps frame with the table's filled labels, centred: t-8 ... t+7 for 16 frames (it sees the future)."""

    name: ClassVar[str] = "all-frames"
    causal: ClassVar[bool] = False
    window: ClassVar[str] = "frames at 1 fps around the labelled frame, half of them before it, padded at both ends"

    def scored(self, manifest: Manifest) -> NDArray[np.bool_]:
        return np.ones(len(manifest), dtype=np.bool_)

    def before(self, length: int) -> int:
        return length // 2


_PROTOCOLS: tuple[Protocol, ...] = (Keyframes(), AllFrames())


def protocol_named(name: str) -> Protocol:
    """Find a protocol by the name that results show."""
    for protocol in _PROTOCOLS:
        if protocol.name == name:
            return protocol
    raise CalotError(f'protocol "{name}" is unknown.{nearest_name(name, among=[p.name for p in _PROTOCOLS])}')


@dataclass(frozen=True)
class ClipLabels:
    """What a label rule may look at: each clip's frames' labels, and which of its places show a frame anew."""

    majority: NDArray[np.float32]  # n t k
    soft: NDArray[np.float32]  # n t k
    distinct: NDArray[np.bool_]  # n t: False where padding repeats a frame
    centre: NDArray[np.float32]  # n k: the labelled frame's majority

    def mean(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean over each clip's distinct frames, `(n, k)`."""
        total = np.einsum("ntk,nt->nk", values, self.distinct, dtype=np.float64)
        return np.asarray(total / self.distinct.sum(axis=1, keepdims=True))


class LabelRule(Component, ABC):
    """What a clip is trained on."""

    @abstractmethod
    def __call__(self, clips: ClipLabels) -> NDArray[np.float32]:
        """Training targets `(n, k)`."""


@dataclass(frozen=True)
class CentreLabel(LabelRule):
    """The labelled frame's majority of raters."""

    def __call__(self, clips: ClipLabels) -> NDArray[np.float32]:
        return clips.centre


@dataclass(frozen=True)
class MajorityLabel(LabelRule):
    """Positive where more than half of the clip's distinct frames are."""

    def __call__(self, clips: ClipLabels) -> NDArray[np.float32]:
        return (clips.mean(clips.majority) > 0.5).astype(np.float32)


@dataclass(frozen=True)
class SoftLabel(LabelRule):
    """Rater mean, averaged over the clip's distinct frames."""

    def __call__(self, clips: ClipLabels) -> NDArray[np.float32]:
        return clips.mean(clips.soft).astype(np.float32)


@dataclass(frozen=True)
class StrictLabel(LabelRule):
    """Positive where every distinct frame of the clip is."""

    def __call__(self, clips: ClipLabels) -> NDArray[np.float32]:
        return np.asarray(clips.majority.min(axis=1))


@dataclass(frozen=True)
class Clip:
    """One clip for people: the labelled frame, the frame numbers seen with it, oldest first, and its labels."""

    video: str
    frame: int
    frames: tuple[int, ...]
    labels: tuple[float, ...]
    majority: tuple[int, ...]
    soft: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class ClipTable:
    """All clips of a split as arrays; `frames` and `row` count rows of the split's manifest (and of its store)."""

    dataset: str
    split: str
    protocol: str
    frames: NDArray[np.int32] = field(repr=False)  # n t
    row: NDArray[np.int32] = field(repr=False)  # n
    labels: NDArray[np.float32] = field(repr=False)  # n k: training target, or the majority outside training
    majority: NDArray[np.int8] = field(repr=False)  # n k
    soft: NDArray[np.float32] = field(repr=False)  # n k
    videos: NDArray[np.str_] = field(repr=False)  # n
    frame_numbers: NDArray[np.int64] = field(repr=False)  # n
    clip_frame_numbers: NDArray[np.int64] = field(repr=False)  # n t

    def __len__(self) -> int:
        return len(self.row)

    def clip(self, index: int) -> Clip:
        return Clip(
            video=str(self.videos[index]),
            frame=int(self.frame_numbers[index]),
            frames=tuple(self.clip_frame_numbers[index].tolist()),
            labels=tuple(self.labels[index].tolist()),
            majority=tuple(self.majority[index].tolist()),
            soft=tuple(self.soft[index].tolist()),
        )

    def select(self, indices: NDArray[np.int64]) -> ClipTable:
        """Keep some clips, in the order given; rows still count the whole split."""
        picked: dict[str, Any] = {
            name: value[indices] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return replace(self, **picked)


def build_clips(
    manifest: Manifest, *, split: str, protocol: Protocol, rule: ClipRule, label_rule: LabelRule, training: bool
) -> ClipTable:
    """Cut a split into clips. Outside training the labels are the majority of raters, whatever the label rule."""
    part = manifest.split(split)
    row = np.flatnonzero(protocol.scored(part))
    if not len(row):
        raise CalotError(
            f'{part.source}: protocol "{protocol.name}" scores no frame of split "{split}": no keyframes in it.'
        )
    frames = _windows(part, row=row, rule=rule, before=protocol.before(rule.length))
    majority, soft = part.labels[row], part.soft[row]
    labels = majority.astype(np.float32)
    if training:
        distinct = np.diff(frames, axis=1, prepend=-1) > 0
        seen = part.labels.astype(np.float32)[frames]
        labels = label_rule(ClipLabels(majority=seen, soft=part.soft[frames], distinct=distinct, centre=labels))
    return ClipTable(
        dataset=part.dataset,
        split=split,
        protocol=protocol.name,
        frames=frames.astype(np.int32),
        row=row.astype(np.int32),
        labels=labels,
        majority=majority,
        soft=soft,
        videos=np.asarray(part.videos)[row],
        frame_numbers=part.frames[row],
        clip_frame_numbers=part.frames[frames],
    )


def _windows(manifest: Manifest, *, row: NDArray[np.int64], rule: ClipRule, before: int) -> NDArray[np.int64]:
    """Rows of each clip, oldest first. Never leaves the run of consecutive 1-fps frames that holds the labelled one."""
    videos, frames = np.asarray(manifest.videos), manifest.frames
    breaks = (videos[1:] != videos[:-1]) | (np.diff(frames) != FRAME_STEP)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    ends = np.concatenate([starts[1:], [len(frames)]]) - 1
    run = np.searchsorted(starts, row, side="right") - 1
    oldest, newest = (row - starts[run]) // rule.stride, (ends[run] - row) // rule.stride
    offsets = np.arange(rule.length) - before
    if rule.pad_to is not None:
        offsets = np.concatenate([np.full(rule.pad_to - rule.length, offsets[0]), offsets])
    steps = np.clip(offsets[None, :], -oldest[:, None], newest[:, None])
    return np.asarray(row[:, None] + steps * rule.stride)
