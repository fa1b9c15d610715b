"""Clips: which frames a labelled frame is seen with, under a named protocol, and what it is trained on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from calot.config.component import Component
from calot.data.clip_rules import ClipRule, Surroundings
from calot.data.manifest import Manifest
from calot.errors import CalotError, nearest_name

#: Clips that show a single frame, repeated or not. A split with more than this share of them is not video, and refused.
#: A clip at the start of its video is padded, and a short video has many such clips; a set of stills or misread
#: numbers has nothing else.
STILL_SHARE = 0.5


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
    window: ClassVar[str] = "past frames ending on the labelled frame, padded at the start"

    def scored(self, manifest: Manifest) -> NDArray[np.bool_]:
        return manifest.keyframes

    def before(self, length: int) -> int:
        return length - 1


@dataclass(frozen=True)
class AllFrames(Protocol):
    """Every sampled frame with the table's filled labels, centred: t-8 ... t+7 for 16 frames (it sees the future)."""

    name: ClassVar[str] = "all-frames"
    causal: ClassVar[bool] = False
    window: ClassVar[str] = "frames around the labelled frame, half of them before it, padded at both ends"

    def scored(self, manifest: Manifest) -> NDArray[np.bool_]:
        return np.ones(len(manifest), dtype=np.bool_)

    def before(self, length: int) -> int:
        return length // 2


_PROTOCOLS: tuple[Protocol, ...] = (Keyframes(), AllFrames())


def protocol_named(name: str) -> Protocol:
    """Find a protocol by the name shown in results."""
    for protocol in _PROTOCOLS:
        if protocol.name == name:
            return protocol
    raise CalotError(f'protocol "{name}" is unknown.{nearest_name(name, among=[p.name for p in _PROTOCOLS])}')


@dataclass(frozen=True)
class ClipLabels:
    """What a label rule may look at: each clip's frames' labels, and which of its places show a new labelled frame."""

    majority: NDArray[np.float32]  # n t k
    soft: NDArray[np.float32]  # n t k
    distinct: NDArray[np.bool_]  # n t: False where padding repeats a frame, and where a frame has no label
    centre: NDArray[np.float32]  # n k: the labelled frame's majority
    centre_soft: NDArray[np.float32]  # n k: its rater mean
    videos: NDArray[np.str_]  # n: the operation, and the labelled frame's number
    frames: NDArray[np.int64]

    def mean(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean over each clip's distinct frames, `(n, k)`."""
        known = np.where(self.distinct[..., None], values, np.float32(0))
        return np.asarray(known.sum(axis=1, dtype=np.float64) / self.distinct.sum(axis=1, keepdims=True))


class LabelRule(Component, ABC):
    """What a clip is trained on; a clip whose target is NaN is left out of training, counted in `data.json`."""

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
    """Positive where at least half of the clip's distinct frames are."""

    def __call__(self, clips: ClipLabels) -> NDArray[np.float32]:
        return (clips.mean(clips.majority) >= 0.5).astype(np.float32)


@dataclass(frozen=True)
class SoftLabel(LabelRule):
    """Rater mean, averaged over the clip's distinct frames."""

    def __call__(self, clips: ClipLabels) -> NDArray[np.float32]:
        return clips.mean(clips.soft).astype(np.float32)


@dataclass(frozen=True)
class StrictLabel(LabelRule):
    """What all distinct frames of the clip agree on; a clip whose frames disagree on a criterion is left out."""

    def __call__(self, clips: ClipLabels) -> NDArray[np.float32]:
        mean = clips.mean(clips.majority)
        agree = ((mean == 0) | (mean == 1)).all(axis=1, keepdims=True)
        return np.where(agree, mean, np.nan).astype(np.float32)


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
    majority: NDArray[np.int8] = field(repr=False)  # n k; -1 where there is no label
    soft: NDArray[np.float32] = field(repr=False)  # n k; NaN where there is no label
    videos: NDArray[np.str_] = field(repr=False)  # n
    frame_numbers: NDArray[np.int64] = field(repr=False)  # n
    clip_frame_numbers: NDArray[np.int64] = field(repr=False)  # n t
    frames_per_second: float
    left_out: int = 0  # clips that the label rule left out of training

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

    def read_only(self) -> ClipTable:
        """The same table, whose arrays raise where they are written to: several may look at it."""
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
        return self

    def clean(self) -> ClipTable:
        """The same clips with the labels they are scored by: the majority of raters, whatever the label rule."""
        return replace(self, labels=self.majority.astype(np.float32))

    def distinct(self) -> NDArray[np.int64]:
        """How many different frames each clip shows, `(n,)`."""
        return np.asarray(1 + (np.diff(self.frames, axis=1) > 0).sum(axis=1), dtype=np.int64)

    def require_labels(self) -> None:
        """Raises CalotError naming the first clip without a label: such clips can be scored, not learnt from."""
        bare = np.flatnonzero((self.majority < 0).any(axis=1))
        if len(bare):
            raise CalotError(
                f'{self.dataset}: {len(bare)} of {len(self)} clips of split "{self.split}" have no label, first video '
                f"{self.videos[bare[0]]}, frame {self.frame_numbers[bare[0]]}. Label them, take them out, or choose a "
                f'protocol that does not ask for them ("{self.protocol}" does); `calot predict` needs no labels.'
            )

    def require_positives(self) -> None:
        """Raises CalotError where no clip is positive of anything: no epoch could be selected on such a split."""
        if not (self.majority > 0).any():
            raise CalotError(
                f'{self.dataset}: split "{self.split}" has no positive label under the protocol "{self.protocol}": no '
                "epoch could be selected on it. Move a video with positives into it."
            )


def build_clips(
    manifest: Manifest,
    *,
    split: str,
    protocol: Protocol,
    rule: ClipRule,
    label_rule: LabelRule,
    training: bool,
    change: NDArray[np.float64] | None = None,
) -> ClipTable:
    """Cut a split into clips. Outside training the labels are the majority of raters, whatever the label rule.

    `change` is how much each of the split's frames differs from the one before it, for a rule that reads it.

    Raises CalotError where more than `STILL_SHARE` of the clips show one frame alone, and where a training clip has no
    label.
    """
    part = manifest.split(split)
    row = np.flatnonzero(protocol.scored(part))
    if not len(row):
        raise CalotError(
            f'{part.source}: protocol "{protocol.name}" scores no frame of split "{split}": no keyframes in it.'
        )
    frames = windows(part, row=row, rule=rule, before=protocol.before(rule.length), change=change)
    majority = part.labels[row]
    table = ClipTable(
        dataset=part.dataset,
        split=split,
        protocol=protocol.name,
        frames=frames.astype(np.int32),
        row=row.astype(np.int32),
        labels=majority.astype(np.float32),
        majority=majority,
        soft=part.soft[row],
        videos=np.asarray(part.videos)[row],
        frame_numbers=part.frames[row],
        clip_frame_numbers=part.frames[frames],
        frames_per_second=part.numbering.per_second,
    )
    if rule.length > 1:
        _refuse_stills(table, manifest=part)
    return _with_targets(table, manifest=part, label_rule=label_rule) if training else table


def _with_targets(table: ClipTable, *, manifest: Manifest, label_rule: LabelRule) -> ClipTable:
    """The training targets of a table's clips; those that the rule has no target for are left out."""
    table.require_labels()
    distinct = np.diff(table.frames, axis=1, prepend=-1) > 0
    seen = manifest.labels.astype(np.float32)[table.frames]
    labelled = manifest.labelled[table.frames]
    clips = ClipLabels(
        majority=seen,
        soft=manifest.soft[table.frames],
        distinct=distinct & labelled,
        centre=table.labels,
        centre_soft=table.soft,
        videos=table.videos,
        frames=table.frame_numbers,
    )
    labels = label_rule(clips)
    kept = np.flatnonzero(~np.isnan(labels).any(axis=1))
    if not len(kept):
        raise CalotError(
            f'{manifest.source}: {type(label_rule).__name__} leaves no clip of split "{table.split}" to train on. '
            "Use another label rule."
        )
    table = replace(table, labels=labels, left_out=len(labels) - len(kept))
    return table if len(kept) == len(labels) else table.select(kept)


def _refuse_stills(table: ClipTable, *, manifest: Manifest) -> None:
    still = int((table.distinct() == 1).sum())
    if still > STILL_SHARE * len(table):
        raise CalotError(
            f'{manifest.source}: {still} of {len(table)} clips of split "{table.split}" show one frame alone, '
            f"repeated: that is not video. Frames are read as {manifest.numbering}; where "
            "they are numbered another way, say so in dataset.json (docs/data.md); for stills use clip.length=1."
        )


def windows(
    manifest: Manifest,
    *,
    row: NDArray[np.int64],
    rule: ClipRule,
    before: int,
    change: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Rows of each clip, oldest first. Never leaves the run of sampled frames, none missing, that holds the labelled
    one."""
    videos, frames = np.asarray(manifest.videos), manifest.frames
    stride = manifest.numbering.frames_in(rule.stride)
    breaks = (videos[1:] != videos[:-1]) | (np.diff(frames) != manifest.numbering.step)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    ends = np.concatenate([starts[1:], [len(frames)]]) - 1
    run = np.searchsorted(starts, row, side="right") - 1
    oldest, newest = (row - starts[run]) // stride, (ends[run] - row) // stride
    around = Surroundings(row=row, stride=stride, before=before, oldest=oldest, newest=newest, change=change)
    return np.asarray(row[:, None] + rule.steps(around) * stride)
