"""MixUp and CutMix of multi-label clips and their masks, and label smoothing: what changes a training target."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from calot.config.component import Component
from calot.config.fields import Fraction, Range
from calot.data.boxes import Box, grid_of
from calot.errors import CalotError
from calot.types import IGNORED, Batch, Masks

Kind = Literal["mixup", "cutmix"]
BetaShape = Annotated[float, Range(ge=0.001, le=1000)]


@dataclass(frozen=True)
class Mixed:
    """A batch after mixing: how it was mixed, if at all, and the share that each clip kept of itself (1 unmixed)."""

    batch: Batch
    kind: Kind | None
    lam: NDArray[np.float64]


@dataclass(frozen=True)
class Mixing(Component):
    """MixUp (Zhang et al. 2018) or CutMix (Yun et al. 2019), never both, drawn once for an effective batch.

    The clips' partners are a permutation of the batch, in which a clip may be its own. `lam ~ Beta(alpha, alpha)` is
    one for the batch, or drawn for each clip with `per_clip`. CutMix cuts one box, the same in all frames and of
    whole mask pixels, and takes `lam` again from the box's true area. Labels are mixed, `soft` is left as it was.
    Each of two mixed clips keeps its masks, as a separate layer. A batch of one clip is not mixed.
    """

    mixup_alpha: BetaShape = 0.8
    mixup_probability: Fraction = 0.5
    cutmix_alpha: BetaShape = 1.0
    cutmix_probability: Fraction = 0.5
    per_clip: bool = False

    def __post_init__(self) -> None:
        shares = (self.mixup_probability, self.cutmix_probability)
        if sum(shares) > 1:
            raise CalotError(
                f"Mixing.mixup_probability={shares[0]}, cutmix_probability={shares[1]}: only one of the two is done to "
                "a batch, so their sum is at most 1."
            )

    def idle(self) -> tuple[str, ...]:
        mixup = () if self.mixup_probability else ("mixup_alpha",)
        cutmix = () if self.cutmix_probability else ("cutmix_alpha",)
        return (*mixup, *cutmix, *(("per_clip",) if mixup and cutmix else ()))

    def neutral(self) -> Mixing:
        """The same that never mixes."""
        return replace(self, mixup_probability=0.0, cutmix_probability=0.0)

    def __call__(self, batch: Batch, *, rng: Generator) -> Mixed:
        draw, count = rng.random(), len(batch)
        if count < 2 or draw >= self.mixup_probability + self.cutmix_probability:
            return Mixed(batch, None, np.ones(count))
        partners = rng.permutation(count)
        if draw < self.mixup_probability:
            lam = self._shares(self.mixup_alpha, count=count, rng=rng)
            return Mixed(_mix(batch, partners, lam=lam), "mixup", lam)
        shares = self._shares(self.cutmix_alpha, count=count, rng=rng)
        boxes = _boxes(shares, grid=grid_of(batch), rng=rng, per_clip=self.per_clip)
        lam = np.array([1 - box.share for box in boxes])
        return Mixed(_cut(batch, partners, boxes=boxes, lam=lam), "cutmix", lam)

    def _shares(self, alpha: float, *, count: int, rng: Generator) -> NDArray[np.float64]:
        return rng.beta(alpha, alpha, size=count) if self.per_clip else np.full(count, rng.beta(alpha, alpha))


def smooth_labels(labels: Float[Tensor, "b k"], *, strength: float) -> Float[Tensor, "b k"]:
    """Draw labels towards 1/2: `y (1 - strength) + strength / 2`, so that 0.1 turns 0 and 1 into 0.05 and 0.95."""
    return labels * (1 - strength) + strength / 2


def _boxes(shares: NDArray[np.float64], *, grid: tuple[int, int], rng: Generator, per_clip: bool) -> list[Box]:
    """For each clip a box of `1 - share` of the area about a uniform centre, cut off at the edges."""
    count = len(shares)
    centres = rng.random((count, 2)) if per_clip else np.broadcast_to(rng.random(2), (count, 2))
    boxes = []
    for share, centre in zip(shares, centres, strict=True):
        half = math.sqrt(1 - share) / 2
        (top, bottom), (left, right) = ((max(0.0, c - half), min(1.0, c + half)) for c in centre)
        boxes.append(Box.nearest(top=top, left=left, height=bottom - top, width=right - left, grid=grid))
    return boxes


def _mix(batch: Batch, partners: NDArray[np.int64], *, lam: NDArray[np.float64]) -> Batch:
    video = torch.empty_like(batch.video)
    for i, (partner, share) in enumerate(zip(partners, lam, strict=True)):
        # Clip by clip: the whole batch as floats would be four times its bytes.
        mixed = torch.lerp(batch.video[partner].float(), batch.video[i].float(), float(share))
        video[i] = mixed.round_().clamp_(0, 255)
    masks = batch.masks
    if masks is not None:
        share = _column(batch, lam)
        masks = _layers(masks, _taken(masks, _on(batch, partners)), shares=(share, 1 - share))
    return replace(batch, video=video, labels=_mixed_labels(batch, partners, lam=lam), masks=masks)


def _cut(batch: Batch, partners: NDArray[np.int64], *, boxes: list[Box], lam: NDArray[np.float64]) -> Batch:
    video = batch.video.clone()
    for clip, partner, box in zip(video, partners, boxes, strict=True):
        box.view(clip).copy_(box.view(batch.video[partner]))
    masks = batch.masks
    if masks is not None:
        theirs = _taken(masks, _on(batch, partners))
        mine = masks.values.clone()
        other = torch.full_like(theirs.values, IGNORED)
        for i, box in enumerate(boxes):
            box.view(other[i]).copy_(box.view(theirs.values[i]))
            box.view(mine[i]).fill_(IGNORED)
        masks = _layers(replace(masks, values=mine), replace(theirs, values=other), shares=(1.0, 1.0))
    return replace(batch, video=video, labels=_mixed_labels(batch, partners, lam=lam), masks=masks)


def _mixed_labels(batch: Batch, partners: NDArray[np.int64], *, lam: NDArray[np.float64]) -> Float[Tensor, "b k"]:
    share = _column(batch, lam)
    return share * batch.labels + (1 - share) * batch.labels[_on(batch, partners)]


def _taken(masks: Masks, place: Tensor) -> Masks:
    return Masks(
        values=masks.values[place],
        weight=masks.weight[place],
        place=masks.place[place],
        complete=masks.complete[place],
    )


def _layers(mine: Masks, theirs: Masks, *, shares: tuple[Tensor | float, Tensor | float]) -> Masks:
    """Both clips' layers, one after the other, each with its weight times its clip's share."""
    return Masks(
        values=torch.cat([mine.values, theirs.values], dim=1),
        weight=torch.cat([shares[0] * mine.weight, shares[1] * theirs.weight], dim=1),
        place=torch.cat([mine.place, theirs.place], dim=1),
        complete=mine.complete & theirs.complete,
    )


def _on(batch: Batch, partners: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(partners).to(batch.video.device)


def _column(batch: Batch, lam: NDArray[np.float64]) -> Float[Tensor, "b 1"]:
    return torch.from_numpy(lam).to(batch.labels)[:, None]
