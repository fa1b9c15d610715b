"""Which tokens of a batch's clips are hidden, in training and in validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calot.data.dataset import ClipDataset
from calot.pretraining.masks import Anatomy, Extent, MultiBlock, Places, draw_places
from calot.types import Batch, Hidden, Masks, is_anatomy

#: Clips of validation that share the size of a block, whatever the batch of a pass.
_TOGETHER = 16
#: What the draws of validation begin with: those of training begin with a seed, and have more numbers.
_VALIDATION = 1


def hidden_in_training(batch: Batch, *, kinds: Sequence[MultiBlock], grid: Extent, where: Sequence[int]) -> Batch:
    """A whole effective batch with the masks of its clips; `where` is its place in the run, see `draw_places`."""
    clips, anatomy = batch.index.tolist(), anatomy_in(batch.masks, grid=grid)
    return _hiding(batch, {k.name: draw_places(k, grid=grid, clips=clips, where=where, anatomy=anatomy) for k in kinds})


def hidden_in_validation(
    batch: Batch, *, kinds: Sequence[MultiBlock], grid: Extent, val: ClipDataset
) -> Iterator[Batch]:
    """A pass's batch with the masks of its clips: the same in every epoch and run, whichever other clips are in it.
    Clips come in parts that have as many hidden tokens each."""
    numbers = batch.index // _TOGETHER
    for group in torch.unique(numbers).tolist():
        first = group * _TOGETHER
        members = np.arange(first, min(first + _TOGETHER, len(val)))
        chosen = torch.nonzero(numbers == group).flatten()
        rows = (batch.index[chosen] - first).cpu().numpy()
        anatomy = anatomy_in(None if val.masks is None else val.masks.read(members), grid=grid)
        clips, where = members.tolist(), (_VALIDATION, first)
        drawn = {k.name: draw_places(k, grid=grid, clips=clips, where=where, anatomy=anatomy) for k in kinds}
        yield _hiding(batch.of(chosen), {k: Places(p.context[rows], p.targets[rows]) for k, p in drawn.items()})


def anatomy_in(masks: Masks | None, *, grid: Extent) -> list[Anatomy] | None:
    """Of each clip, which tokens of a frame any of its segmentation masks gives a class of anatomy; None without."""
    if masks is None:
        return None
    _, rows, columns = grid
    pixels = is_anatomy(masks.values).any(dim=1)
    clips, height, width = pixels.shape
    tokens = pixels.view(clips, rows, height // rows, columns, width // columns).any(dim=4).any(dim=2)
    return list(tokens.cpu().numpy())


@dataclass
class GuidedMeter:
    """How many of an epoch's clips have anatomy for blocks to be placed on; part of a checkpoint."""

    guided: int = 0
    clips: int = 0

    def add(self, masks: Masks | None, *, grid: Extent) -> None:
        for anatomy in anatomy_in(masks, grid=grid) or ():
            self.guided += bool(anatomy.any())
            self.clips += 1

    def join(self, other: GuidedMeter) -> None:
        """Add the clips of another."""
        self.guided += other.guided
        self.clips += other.clips

    @property
    def share(self) -> float | None:
        """Of the clips so far; None of none."""
        return self.guided / self.clips if self.clips else None


def _hiding(batch: Batch, places: Mapping[str, Places]) -> Batch:
    def on_device(x: Any) -> Tensor:
        return torch.from_numpy(x).to(batch.video.device)

    return replace(batch, hidden={k: Hidden(on_device(p.context), on_device(p.targets)) for k, p in places.items()})
