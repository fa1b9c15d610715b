"""Pooling of several layers at once: each with its own norm and its own query, their vectors joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calot.config.fields import LayerNumbers, layers_at_depth
from calot.models.pooling import AttentivePooling, Pooling
from calot.types import Tokens


@dataclass(frozen=True, kw_only=True)
class LayerPooling(Pooling):
    """The outputs of these layers, each normed and pooled by an `each` of its own; the vectors are joined.

    Unlike a pyramid in the encoder, no token changes: only what is read of a clip does. A negative number counts from
    the last layer.
    """

    layers: LayerNumbers = (6, 12, 23)
    each: Pooling = AttentivePooling()

    def __post_init__(self) -> None:
        if self.each.reads_layers:
            raise ValueError("LayerPooling.each reads layers itself; give it a pooling of tokens")

    @property
    def reads_layers(self) -> tuple[int, ...]:
        return self.layers

    def width_of(self, width: int) -> int:
        return len(self.layers) * self.each.width_of(width)

    def require_width(self, width: int) -> None:
        self.each.require_width(width)

    def at_depth(self, *, layers: int, of: int) -> LayerPooling:
        numbers = tuple(dict.fromkeys(layers_at_depth(self.layers, layers=layers, of=of)))
        return replace(self, layers=numbers, each=self.each.at_depth(layers=layers, of=of))

    def build(self, *, width: int) -> nn.Module:
        return LayerPool(self.layers, pools=[self.each.build(width=width) for _ in self.layers], width=width)


class LayerPool(nn.Module):
    """One norm and one pool for each layer."""

    def __init__(self, layers: Sequence[int], *, pools: Sequence[nn.Module], width: int) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in pools)
        self.pools = nn.ModuleList(pools)

    def forward(self, tokens: Tokens) -> Float[Tensor, "b d"]:
        levels = tokens.levels or {}
        vectors = [
            pool(replace(tokens, values=norm(levels[number]), levels=None))
            for number, norm, pool in zip(self.layers, self.norms, self.pools, strict=True)
        ]
        return torch.cat(vectors, dim=-1)
