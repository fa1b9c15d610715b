"""What is done to an effective batch of training clips before the model sees it, and its source of randomness."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calot.config.component import Component
from calot.config.fields import FractionBelowOne, Seed
from calot.data.mixing import Kind, Mixed, Mixing, smooth_labels
from calot.data.transforms import Augmentation, Show, as_stored
from calot.types import Batch

#: Sees a part of preparation by name (`augment.0`, `mixing`, `label_smoothing`), and the batch before and after it.
Watch = Callable[[str, Batch, Batch], None]


def _unwatched(part: str, before: Batch, after: Batch) -> None:
    """Nobody looks."""


@dataclass(frozen=True)
class Prepared:
    """A batch as it is trained on; `kind` and `lam` say how it was mixed (see `Mixed`)."""

    batch: Batch
    kind: Kind | None
    lam: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Preparation(Component):
    """Augments each clip, mixes clips over the effective batch, smooths the labels: in this order, on any device.

    A clip's draws come from (seed, stage, epoch, place in the epoch's order, clip, component): neither the number of
    workers, nor the batch size, nor another component changes them, and a clip drawn twice in an epoch is augmented
    twice. Mixing draws from (seed, stage, epoch, the batch's first place). Validation, test and the clean pass over
    training clips never come here: their targets are unmixed and unsmoothed, and so must their inputs be.
    """

    augment: tuple[Augmentation, ...] = ()
    mixing: Mixing | None = None
    label_smoothing: FractionBelowOne = 0.0
    seed: Seed = 0

    def __call__(self, batch: Batch, *, stage: int, epoch: int, start: int, watch: Watch | None = None) -> Prepared:
        """Prepare an effective batch; `start` is its first clip's place in the epoch's order.

        Raises CalotError for pixels that it would leave as they were: cached tokens, further views.
        """
        if (self.augment or self.mixing) and (batch.tokens is not None or batch.views):
            what = "tokens" if batch.tokens is not None else f"views {sorted(batch.views)}"
            raise CalotError(f"augment and mixing change a batch's video alone, and this one has {what}: turn both off")
        told = watch or _unwatched
        shown = batch.video.shape[1] > 0 or batch.masks is not None  # else tokens stand for what it would do
        for number, (component, name) in enumerate(self._named() if shown else ()):
            rngs = self._rngs(batch.index.tolist(), name=name, stage=stage, epoch=epoch, start=start)
            before, kind = batch, batch.video.dtype
            batch = component(batch, rngs=rngs)
            if batch.video.dtype != kind:  # a backbone takes floats for clips that are normalised already
                raise CalotError(
                    f"{type(component).__name__} turned frames of {kind} into {batch.video.dtype}; round them back"
                )
            told(f"augment.{number}", before, batch)
        mixed = Mixed(batch, None, np.ones(len(batch)))
        if self.mixing is not None:
            rng = np.random.default_rng([self.seed, stage, epoch, start, _number("Mixing")])
            mixed = self.mixing(batch, rng=rng)
            told("mixing", batch, mixed.batch)
        batch = mixed.batch
        if self.label_smoothing > 0:
            before = batch
            batch = replace(batch, labels=smooth_labels(batch.labels, strength=self.label_smoothing))
            told("label_smoothing", before, batch)
        return Prepared(batch, mixed.kind, mixed.lam)

    @property
    def unlisted(self) -> str | None:
        """Why the ways in which it may show a clip cannot be listed, or None."""
        if self.mixing is not None:
            return "mixing shows clips in endless ways"
        endless = [type(a).__name__ for a in self.augment if a.listed is None]
        if endless:
            return f"{endless[0]} shows clips in endless ways"
        return "several augmentations act at once" if len(self.augment) > 1 else None

    @property
    def listed(self) -> Mapping[str, Show]:
        """Each way in which it may show a clip, by name; the first is as stored. See `unlisted`."""
        ways = self.augment[0].listed if self.augment else {"as stored": as_stored}
        assert ways is not None
        return ways

    def drawn(self, clips: NDArray[np.int64], *, stage: int, epoch: int, start: int) -> NDArray[np.int64]:
        """Which of the listed ways each clip of an effective batch is shown in, as a call draws it."""
        views = np.zeros(len(clips), dtype=np.int64)
        for component, name in self._named():
            rngs = self._rngs(clips.tolist(), name=name, stage=stage, epoch=epoch, start=start)
            views = np.array([component.drawn(rng) for rng in rngs], dtype=np.int64)
        return views

    def _rngs(self, clips: list[int], *, name: int, stage: int, epoch: int, start: int) -> list[np.random.Generator]:
        """A component's generator for each clip."""
        draws = enumerate(clips, start=start)
        return [np.random.default_rng([self.seed, stage, epoch, place, clip, name]) for place, clip in draws]

    def _named(self) -> Iterator[tuple[Augmentation, int]]:
        """Each component with a number of its own: its class, and how many of that class come before it."""
        kinds = [type(component).__name__ for component in self.augment]
        for number, component in enumerate(self.augment):
            yield component, _number(f"{kinds[number]} {kinds[:number].count(kinds[number])}")


def _number(name: str) -> int:
    return zlib.crc32(name.encode())
