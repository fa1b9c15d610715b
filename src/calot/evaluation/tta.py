"""Test-time augmentation: the views of a clip whose predictions are averaged, each a frozen value.

A view changes a clip's pixels, or which frames the clip shows; it is computed on the processor, like reading a clip.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.nn.functional import interpolate

from calot.config.component import Component
from calot.config.fields import Range
from calot.data.clip_rules import ClipRule
from calot.data.clips import ClipTable, Protocol, windows
from calot.data.dataset import ClipDataset, EpochIndices
from calot.data.manifest import Manifest
from calot.errors import CalotError, nearest_name
from calot.types import Batch

#: How many clips, evenly spread, are compared with their view before anything is scored, and how many at a time.
_LOOKED_AT, _AT_ONCE = 64, 8


class AugmentedView(Component, ABC):
    """One view of each clip. What a subclass does not redefine stays as it is."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the command line and every page call it."""

    def admitted(self, protocol: Protocol) -> bool:
        """Whether a protocol allows it: a causal one shows no frame after the labelled one."""
        return True

    def clips(self, table: ClipTable, *, part: Manifest, rule: ClipRule, before: int) -> ClipTable:
        """The same clips with the frames that this view shows; `before`: how many come before the labelled frame."""
        return table

    def pixels(self, video: Shaped[Tensor, "b t c h w"]) -> Shaped[Tensor, "b t c h w"]:
        """The frames as this view shows them."""
        return video

    def __call__(self, batch: Batch) -> Batch:
        """A batch as this view shows it. Raises CalotError for one that holds more than frames."""
        if batch.tokens is not None or batch.masks is not None:
            held = "tokens" if batch.tokens is not None else "masks"
            raise CalotError(f"--tta: a view changes frames alone, and this batch has {held}: predict without --tta")
        views = {name: self.pixels(video) for name, video in batch.views.items()}
        return replace(batch, video=self.pixels(batch.video), views=views)


@dataclass(frozen=True, kw_only=True)
class AsStored(AugmentedView):
    """The clip as a prediction without test-time augmentation sees it."""

    @property
    def name(self) -> str:
        return "identity"


@dataclass(frozen=True, kw_only=True)
class Flipped(AugmentedView):
    """Left and right mirrored."""

    @property
    def name(self) -> str:
        return "flip"

    def pixels(self, video: Shaped[Tensor, "b t c h w"]) -> Shaped[Tensor, "b t c h w"]:
        return video.flip(-1)


@dataclass(frozen=True, kw_only=True)
class Shifted(AugmentedView):
    """Every frame `strides` strides later, or earlier where negative; what a run of frames lacks is padded as ever."""

    strides: Annotated[int, Range(ge=-1000, le=1000)]

    @property
    def name(self) -> str:
        return f"shift{self.strides:+d}"

    def admitted(self, protocol: Protocol) -> bool:
        return self.strides <= 0 or not protocol.causal

    def clips(self, table: ClipTable, *, part: Manifest, rule: ClipRule, before: int) -> ClipTable:
        frames = windows(part, row=table.row.astype(np.int64), rule=rule, before=before - self.strides)
        return replace(table, frames=frames.astype(np.int32), clip_frame_numbers=part.frames[frames])


@dataclass(frozen=True, kw_only=True)
class Cropped(AugmentedView):
    """A part of the frame, `share` of each side long, brought back to the full size (bilinear)."""

    place: Literal["centre", "top-left", "top-right", "bottom-left", "bottom-right"]
    share: Annotated[float, Range(gt=0, le=1)] = 0.875

    @property
    def name(self) -> str:
        return f"crop-{self.place}"

    def pixels(self, video: Shaped[Tensor, "b t c h w"]) -> Shaped[Tensor, "b t c h w"]:
        height, width = video.shape[-2:]
        down, across = _CORNERS[self.place]
        tall, wide = max(1, round(self.share * height)), max(1, round(self.share * width))
        top, left = round(down * (height - tall)), round(across * (width - wide))
        return torch.stack([_resized(clip[..., top : top + tall, left : left + wide], like=clip) for clip in video])


#: Where a crop lies, as the share of the room above it and to its left.
_CORNERS = {
    "centre": (0.5, 0.5),
    "top-left": (0.0, 0.0),
    "top-right": (0.0, 1.0),
    "bottom-left": (1.0, 0.0),
    "bottom-right": (1.0, 1.0),
}

IDENTITY = AsStored()
#: What the words of `--tta` stand for, in the order in which views are scored.
WORDS: dict[str, tuple[AugmentedView, ...]] = {
    "identity": (IDENTITY,),
    "flip": (Flipped(),),
    "shift": (Shifted(strides=-1), Shifted(strides=1)),
    "crops": (
        Cropped(place="centre"),
        Cropped(place="top-left"),
        Cropped(place="top-right"),
        Cropped(place="bottom-left"),
        Cropped(place="bottom-right"),
    ),
}


def views_named(text: str, *, protocol: Protocol) -> tuple[AugmentedView, ...]:
    """The views that `--tta flip,shift` asks for, the clip as it is always first; a word may also name a single view.

    A word stands for all of its views that the protocol allows. Raises CalotError for an unknown word, one given twice,
    and one of which the protocol allows nothing.
    """
    single = {view.name: (view,) for views in WORDS.values() for view in views}
    words = [word.strip() for word in text.split(",")]
    asked: list[AugmentedView] = [IDENTITY]
    for word in words:
        found = WORDS.get(word) or single.get(word)
        if found is None:
            raise CalotError(f"--tta {text}: no view {word!r}.{nearest_name(word, among={**WORDS, **single})}")
        if words.count(word) > 1:
            raise CalotError(f"--tta {text}: {word} is given twice")
        allowed = [view for view in found if view.admitted(protocol)]
        if not allowed:
            raise CalotError(f"--tta {text}: {word} shows frames after the scored one, and {protocol.name} is causal")
        asked += allowed
    return tuple(view for views in WORDS.values() for view in views if view in asked)


@dataclass(frozen=True, eq=False)
class ViewedClips(ClipDataset):
    """Clips as a view shows them."""

    view: AugmentedView = field(default=IDENTITY)

    def __getitem__(self, request: EpochIndices) -> Batch:
        return self.view(super().__getitem__(request))


def changed_clips(seen: ClipDataset, *, plain: ClipDataset) -> tuple[int, int]:
    """Of how many clips looked at a view changed how many."""
    count = len(plain)
    chosen = np.unique(np.linspace(0, count - 1, min(_LOOKED_AT, count)).astype(np.int64)).tolist()
    parts = [EpochIndices(epoch=0, indices=tuple(chosen[i : i + _AT_ONCE])) for i in range(0, len(chosen), _AT_ONCE)]
    return sum(_differing(seen[part].video, plain[part].video) for part in parts), len(chosen)


def require_changes(views: Sequence[ViewedClips], *, plain: ClipDataset) -> list[str]:
    """What each view does to the clips, in words. Raises CalotError for one that changes none: its forward passes
    would be paid for, and said to be of another view, for nothing."""
    said = []
    for seen in views:
        changed, looked = changed_clips(seen, plain=plain)
        if not changed:
            raise CalotError(f"--tta: the view {seen.view.name} changes none of {looked} clips looked at: leave it out")
        said.append(f"{seen.view.name} changes {changed} of {looked} clips looked at")
    return said


def _differing(a: Tensor, b: Tensor) -> int:
    return len(a) if a.shape != b.shape else int((a != b).flatten(1).any(dim=1).sum())


def _resized(clip: Shaped[Tensor, "t c y x"], *, like: Shaped[Tensor, "t c h w"]) -> Shaped[Tensor, "t c h w"]:
    resized = interpolate(clip.float(), size=like.shape[-2:], mode="bilinear", align_corners=False)
    return resized.to(like.dtype) if like.is_floating_point() else resized.round_().clamp_(0, 255).to(like.dtype)
