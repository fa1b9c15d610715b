"""What happens to pixels between the store and the model: normalisation, and augmentation drawn once a clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, UInt8
from numpy.random import Generator
from torch import Tensor

from calot.config.component import Component
from calot.config.fields import Fraction
from calot.types import Batch

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalise(
    video: UInt8[Tensor, "b t c h w"], *, out: Float[Tensor, "b t c h w"] | None = None
) -> Float[Tensor, "b t c h w"]:
    """`(video / 255 - mean) / std` with ImageNet's figures, as V-JEPA 2's processor; fills `out` if given."""
    if out is None:
        out = torch.empty(video.shape, dtype=torch.float32, device=video.device)
    elif out.shape != video.shape or out.dtype != torch.float32:
        raise ValueError(f"normalise: out is {out.dtype} {tuple(out.shape)}, need float32 {tuple(video.shape)}")
    mean = torch.tensor(MEAN, dtype=torch.float64)
    std = torch.tensor(STD, dtype=torch.float64)
    scale = (1 / (255 * std)).to(out).view(-1, 1, 1)
    shift = (-mean / std).to(out).view(-1, 1, 1)
    return out.copy_(video).mul_(scale).add_(shift)


class Augmentation(Component, ABC):
    """Changes a whole batch, with one generator a clip: whatever it draws holds for all of the clip's frames."""

    @abstractmethod
    def __call__(self, batch: Batch, *, rngs: Sequence[Generator]) -> Batch:
        """The changed batch; `rngs` holds one generator a clip."""


@dataclass(frozen=True)
class HorizontalFlip(Augmentation):
    """Mirror left and right, all frames of a clip and its masks together."""

    probability: Fraction = 0.5

    def neutral(self) -> HorizontalFlip:
        """The same that changes nothing."""
        return HorizontalFlip(probability=0.0)

    def __call__(self, batch: Batch, *, rngs: Sequence[Generator]) -> Batch:
        chosen = torch.tensor([rng.random() < self.probability for rng in rngs], dtype=torch.bool)
        masks = batch.masks
        if masks is not None:
            masks = replace(masks, values=_mirrored(masks.values, chosen))
        return replace(batch, video=_mirrored(batch.video, chosen), masks=masks)


def _mirrored(images: UInt8[Tensor, "b ..."], chosen: Bool[Tensor, " b"]) -> UInt8[Tensor, "b ..."]:
    chosen, mirrored = chosen.to(images.device), images.clone()
    mirrored[chosen] = mirrored[chosen].flip(-1)
    return mirrored
