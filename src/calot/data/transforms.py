"""What happens to clips between the store and the model: augmentation, drawn once per clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, UInt8
from numpy.random import Generator
from torch import Tensor

from calot.config.component import Component
from calot.config.fields import Fraction
from calot.types import Batch


class Augmentation(Component, ABC):
    """Changes a whole batch, with one generator per clip: whatever it draws holds for all of the clip's frames."""

    @abstractmethod
    def __call__(self, batch: Batch, *, rngs: Sequence[Generator]) -> Batch:
        """The changed batch; `rngs` holds one generator per clip."""


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
