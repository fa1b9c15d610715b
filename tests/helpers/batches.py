"""Hand-made batches for the tests of augmentation and mixing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from calot.types import IGNORED, Batch, Masks

SIDE, MASK_SIDE, FRAMES = 32, 8, 3


def generators(count: int, *, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(count)]


def noise(clips: int, *, seed: int = 0, frames: int = FRAMES, side: int = SIDE) -> Tensor:
    video = np.random.default_rng(seed).integers(0, 256, (clips, frames, 3, side, side), dtype=np.uint8)
    return torch.from_numpy(video)


def smooth(clips: int, *, frames: int = FRAMES, side: int = SIDE) -> Tensor:
    """A gradient in each channel, brighter from frame to frame and clip to clip."""
    ramp = torch.linspace(20, 200, side)
    image = torch.stack(
        [ramp[None, :].expand(side, side), ramp[:, None].expand(side, side), ramp.flip(0).expand(side, side)]
    )
    steps = torch.arange(clips).view(-1, 1) * 5 + torch.arange(frames) * 2
    return (image + steps.view(clips, frames, 1, 1, 1)).round().to(torch.uint8)


def masks_of(clips: int, *, layers: int = 1, seed: int = 0, side: int = MASK_SIDE) -> Masks:
    """Random classes; clip 1 has none."""
    values = torch.from_numpy(np.random.default_rng(seed).integers(0, 5, (clips, layers, side, side), dtype=np.uint8))
    weight = torch.ones(clips, layers)
    values[1:2], weight[1:2] = IGNORED, 0.0
    place = (torch.arange(clips)[:, None] % FRAMES).expand(clips, layers).clone()
    return Masks(values=values, weight=weight, place=place, complete=(weight > 0).all(dim=1))


def batch_of(video: Tensor, *, masks: Masks | None = None) -> Batch:
    """Clips with labels that differ from one to the next."""
    index = torch.arange(len(video))
    labels = (index[:, None] >> torch.arange(3) & 1).float()
    return Batch(video=video, labels=labels, soft=labels * 2 / 3, index=index, masks=masks)
