"""What is done to an effective batch of training clips before the model sees it, and where its chance comes from."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calot.data.transforms import Augmentation
from calot.types import Batch


@dataclass(frozen=True)
class Prepared:
    """A batch as it is trained on."""

    batch: Batch


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Augments each clip, on whatever device the batch is.

    A clip's draws come from (seed, stage, epoch, place in the epoch's order, clip, component): neither the number of
    workers, nor the batch size, nor another component changes them, and a clip drawn twice in an epoch is augmented
    twice. Validation, test and the clean pass over training clips never come here.
    """

    augment: tuple[Augmentation, ...] = ()
    seed: int = 0

    def __call__(self, batch: Batch, *, stage: int, epoch: int, start: int) -> Prepared:
        """Prepare an effective batch; `start` is its first clip's place in the epoch's order."""
        for component, name in self._named():
            draws = enumerate(batch.index.tolist(), start=start)
            rngs = [np.random.default_rng([self.seed, stage, epoch, place, clip, name]) for place, clip in draws]
            batch = component(batch, rngs=rngs)
        return Prepared(batch)

    def _named(self) -> Iterator[tuple[Augmentation, int]]:
        """Each component with a number of its own: its class, and how many of that class come before it."""
        kinds = [type(component).__name__ for component in self.augment]
        for number, component in enumerate(self.augment):
            yield component, _number(f"{kinds[number]} {kinds[:number].count(kinds[number])}")


def _number(name: str) -> int:
    return zlib.crc32(name.encode())
