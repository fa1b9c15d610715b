"""Which tokens of a batch's clips are hidden, in training and in validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from calot.pretraining.masks import Extent, MultiBlock, Places, draw_places
from calot.types import Batch, Hidden

#: Clips of validation that share the size of a block, whatever the batch of a pass.
_TOGETHER = 16
#: What the draws of validation begin with: those of training begin with a seed, and have more numbers.
_VALIDATION = 1


def hidden_in_training(batch: Batch, *, kinds: Sequence[MultiBlock], grid: Extent, where: Sequence[int]) -> Batch:
    """A whole effective batch with the masks of its clips; `where` is its place in the run, see `draw_places`."""
    clips = batch.index.tolist()
    return _hiding(batch, {k.name: draw_places(k, grid=grid, clips=clips, where=where) for k in kinds})


def hidden_in_validation(batch: Batch, *, kinds: Sequence[MultiBlock], grid: Extent, clips: int) -> Iterator[Batch]:
    """A pass's batch, of `clips` in all, with the masks of its clips: the same in every epoch and run, whichever other
    clips are in it. Clips come in parts that have as many hidden tokens each."""
    numbers = batch.index // _TOGETHER
    for group in torch.unique(numbers).tolist():
        first = group * _TOGETHER
        members = range(first, min(first + _TOGETHER, clips))
        chosen = torch.nonzero(numbers == group).flatten()
        rows = (batch.index[chosen] - first).cpu().numpy()
        drawn = {k.name: draw_places(k, grid=grid, clips=members, where=(_VALIDATION, first)) for k in kinds}
        yield _hiding(batch.of(chosen), {k: Places(p.context[rows], p.targets[rows]) for k, p in drawn.items()})


def _hiding(batch: Batch, places: Mapping[str, Places]) -> Batch:
    def on_device(x: Any) -> Tensor:
        return torch.from_numpy(x).to(batch.video.device)

    return replace(batch, hidden={k: Hidden(on_device(p.context), on_device(p.targets)) for k, p in places.items()})
