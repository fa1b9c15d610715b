"""What travels along the line: `Batch -> Tokens -> Outputs`, and the letters of their shapes.

Letters: `b` clip, `t` frame, `c h w` image, `n` token, `d` width, `k` criterion (order of `calot.criteria.CRITERIA`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Clips with their labels.

    `video` is uint8 as stored, or float once normalised. `labels` is the training target under the label rule
    (the majority of raters outside training); `soft` the rater mean of the labelled frame; `index` each clip's
    place in its `ClipTable`, so that an error or a receipt can name it.
    """

    video: Shaped[Tensor, "b t c h w"]
    labels: Float[Tensor, "b k"]
    soft: Float[Tensor, "b k"]
    index: Int[Tensor, " b"]

    def __len__(self) -> int:
        return self.video.shape[0]

    def split(self, size: int) -> list[Batch]:
        """Cut into consecutive parts of at most `size` clips."""
        return [self._map(lambda x, i=i: x[i : i + size]) for i in range(0, len(self), size)]

    def to(self, device: torch.device) -> Batch:
        return self._map(lambda x: x.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        return self._map(lambda x: x.pin_memory())

    def _map(self, fn: Any) -> Batch:
        changed = {k: fn(v) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **changed)


@dataclass(frozen=True)
class Tokens:
    """The backbone's output and where each token sits: `n = grid[0] * grid[1] * grid[2]` (time, height, width)."""

    values: Float[Tensor, "b n d"]
    grid: tuple[int, int, int]


@dataclass(frozen=True)
class Outputs:
    """What a classifier gives for a batch: raw logits, never squashed."""

    logits: Float[Tensor, "b k"]
    tokens: Tokens
