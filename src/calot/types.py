"""What travels along the line: `Batch -> Tokens -> Outputs`, and the letters of their shapes.

Letters: `b` clip, `t` frame, `c h w` image, `n` token, `d` width, `k` criterion (order of `calot.criteria.CRITERIA`),
`s` mask class, `m` mask layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

#: Side of a mask, in mask pixels a token: the segmentation decoder's output.
MASK_PIXELS = 4

#: Mask pixels that no term may use.
IGNORED = 255


def is_anatomy(values: UInt8[Tensor, "*any"]) -> Bool[Tensor, "*any"]:
    """Mask pixels of classes 1 to 4."""
    return (values > 0) & (values != IGNORED)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision widened; losses and softmaxes are computed in float32, or in float64 where a test asks for it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@dataclass(frozen=True)
class Masks:
    """True masks of clips, at `MASK_PIXELS` pixels a token: one layer a clip, two once clips are mixed.

    `values` are training classes (0 background, 1 cystic plate, 2 triangle, 3 artery, 4 duct, 255 ignored); `weight`
    is a layer's share in the loss, 0 where a clip has no mask (all its pixels are then 255); `place` says which of
    the clip's frames a layer belongs to (the labelled one's where there is none).
    """

    values: UInt8[Tensor, "b m h w"]
    weight: Float[Tensor, "b m"]
    place: Int[Tensor, "b m"]

    @property
    def complete(self) -> Bool[Tensor, " b"]:
        """Clips of which every layer has a mask."""
        return (self.weight > 0).all(dim=1)


@dataclass(frozen=True)
class Batch:
    """Clips with their labels.

    `video` is uint8 as stored (a backbone takes floats for clips that are normalised already). `labels` is the training
    target under the label rule (the majority of raters outside training); `soft` the rater mean of the labelled frame;
    `index` each clip's place in its `ClipTable`, so that an error or a receipt can name it. `masks` are there where
    they were asked for.
    """

    video: Shaped[Tensor, "b t c h w"]
    labels: Float[Tensor, "b k"]
    soft: Float[Tensor, "b k"]
    index: Int[Tensor, " b"]
    masks: Masks | None = None

    def __len__(self) -> int:
        return self.video.shape[0]

    def split(self, size: int) -> list[Batch]:
        """Cut into consecutive parts of at most `size` clips."""
        return [self._map(lambda x, i=i: x[i : i + size]) for i in range(0, len(self), size)]

    def of(self, clips: Int[Tensor, " m"]) -> Batch:
        """Some of its clips."""
        return self._map(lambda x: x[clips])

    def to(self, device: torch.device) -> Batch:
        return self._map(lambda x: x.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        return self._map(lambda x: x.pin_memory())

    def _map(self, fn: Any) -> Batch:
        changed: dict[str, Any] = {k: fn(v) for k, v in vars(self).items() if isinstance(v, Tensor)}
        if self.masks is not None:
            changed["masks"] = Masks(**{k: fn(v) for k, v in vars(self.masks).items()})
        return replace(self, **changed)


@dataclass(frozen=True)
class Tokens:
    """The backbone's output and where each token sits: `n = grid[0] * grid[1] * grid[2]` (time, height, width).

    Where `keep` is given, pooling reads its tokens alone; each clip keeps at least one.
    """

    values: Float[Tensor, "b n d"]
    grid: tuple[int, int, int]
    keep: Bool[Tensor, "b n"] | None = None


@dataclass(frozen=True, kw_only=True)
class QueryKey:
    """All that fixes an attention map: softmax over keys of `scaling * query . key + bias`.

    Where the tokens of a clip attend in several `parts` apart (frame by frame), each part is a row of `b`, a clip's
    parts together and in the order of its tokens. The first `extra` tokens of each part stand for no place.
    """

    query: Float[Tensor, "b heads n d"]
    key: Float[Tensor, "b heads n d"]
    scaling: float
    bias: Float[Tensor, "b 1 1 n"] | None = None
    parts: int = 1
    extra: int = 0

    def of(self, clips: Int[Tensor, " m"]) -> QueryKey:
        """The maps of some clips."""
        rows = (clips[:, None] * self.parts + torch.arange(self.parts, device=clips.device)).flatten()
        bias = None if self.bias is None else self.bias[rows]
        return replace(self, query=self.query[rows], key=self.key[rows], bias=bias)


@dataclass(frozen=True)
class Outputs:
    """What a classifier gives for a batch: raw logits, never squashed.

    `segmentation` holds raw class scores for every mask layer asked for, `kept` the tokens that hard masking spared,
    `attention` the queries and keys of the layers asked for, by number.
    """

    logits: Float[Tensor, "b k"]
    tokens: Tokens
    segmentation: Float[Tensor, "b m s hm wm"] | None = None
    kept: Bool[Tensor, "b n"] | None = None
    attention: dict[int, QueryKey] | None = None
