"""What happens to clips between the store and the model: augmentation, drawn once per clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, UInt8
from numpy.random import Generator
from torch import Tensor

from calot.config.component import Component
from calot.config.fields import Fraction
from calot.types import Batch

#: Shows frames in some way.
Show = Callable[[Tensor], Tensor]


def as_stored(video: Tensor) -> Tensor:
    """Frames as they are."""
    return video


def mirrored(video: Tensor) -> Tensor:
    """Left and right changed over."""
    return video.flip(-1)


class Augmentation(Component, ABC):
    """Changes a whole batch, with one generator per clip: whatever it draws holds for all of the clip's frames."""

    @abstractmethod
    def __call__(self, batch: Batch, *, rngs: Sequence[Generator]) -> Batch:
        """The changed batch; `rngs` holds one generator per clip."""

    @property
    def listed(self) -> Mapping[str, Show] | None:
        """Each way in which it may show a clip, by name, where these can be listed: tokens of all are then cached."""
        return None

    def drawn(self, rng: Generator) -> int:
        """Which of the listed ways a clip's generator chooses."""
        raise NotImplementedError(f"{type(self).__name__} lists no ways of showing a clip")


@dataclass(frozen=True)
class HorizontalFlip(Augmentation):
    """Mirror left and right, all frames of a clip and its masks together."""

    probability: Fraction = 0.5

    def neutral(self) -> HorizontalFlip:
        """The same that changes nothing."""
        return HorizontalFlip(probability=0.0)

    @property
    def listed(self) -> Mapping[str, Show]:
        return {"as stored": as_stored} | ({"mirrored": mirrored} if self.probability else {})

    def drawn(self, rng: Generator) -> int:
        return int(rng.random() < self.probability)

    def __call__(self, batch: Batch, *, rngs: Sequence[Generator]) -> Batch:
        chosen = torch.tensor([self.drawn(rng) for rng in rngs], dtype=torch.bool)
        masks = batch.masks
        if masks is not None:
            masks = replace(masks, values=_mirrored(masks.values, chosen))
        return replace(batch, video=_mirrored(batch.video, chosen), masks=masks)


def _mirrored(images: UInt8[Tensor, "b ..."], chosen: Bool[Tensor, " b"]) -> UInt8[Tensor, "b ..."]:
    chosen, mirrored = chosen.to(images.device), images.clone()
    mirrored[chosen] = mirrored[chosen].flip(-1)
    return mirrored
