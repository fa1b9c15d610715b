"""From tokens to one vector per clip. The attention map is a tap point: `pooling.attention_map`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from calot.config.fields import FractionBelowOne, Range, Size
from calot.models.dropout import Regularised
from calot.types import Tokens


@dataclass(frozen=True, kw_only=True)
class Pooling(Regularised, ABC):
    """A way to read tokens; `build` gives the module for a width."""

    @abstractmethod
    def build(self, *, width: int) -> nn.Module:
        """A module from `Tokens` to `Float[b d]`, `d` being `width_of(width)`."""

    def width_of(self, width: int) -> int:
        """The width of the vector it makes of tokens of a width."""
        return width

    @property
    def reaches(self) -> frozenset[str]:
        """The parts of the model that a gradient of its vector reaches."""
        return frozenset({"backbone", "pooling"})

    @property
    def reads_layers(self) -> tuple[int, ...]:
        """Layers whose outputs it reads, as `Tokens.levels`, beside or in place of the tokens."""
        return ()

    def at_depth(self, *, layers: int, of: int) -> Pooling:
        """The same for an encoder of `layers` layers where this one was written for `of`."""
        return self

    def require_width(self, width: int) -> None:
        """Raises ValueError where it cannot read tokens of a width; called before anything is built."""


@dataclass(frozen=True, kw_only=True)
class MeanPooling(Pooling):
    """The mean over all tokens; no parameters."""

    def build(self, *, width: int) -> nn.Module:
        return MeanPool()


@dataclass(frozen=True, kw_only=True)
class AttentivePooling(Pooling):
    """One learned query attends to every token (Bardes et al. 2024, attentive probe, without its MLP block)."""

    heads: Size = 8
    dropout: FractionBelowOne = 0.1

    def require_width(self, width: int) -> None:
        if width % self.heads:
            raise ValueError(f"AttentivePooling.heads={self.heads} does not divide the width {width}")

    def build(self, *, width: int) -> nn.Module:
        self.require_width(width)
        return AttentivePool(width=width, heads=self.heads, dropout=self.dropout)


@dataclass(frozen=True, kw_only=True)
class LSTMPooling(Pooling):
    """An LSTM over the mean tokens of the temporal bins, oldest first; its output at the last bin is the vector.

    `detached`: no gradient of it reaches the backbone, so that the backbone learns from other heads alone.
    """

    hidden: Size = 256
    layers: Annotated[int, Range(ge=1, le=100)] = 2
    detached: bool = False

    def width_of(self, width: int) -> int:
        return self.hidden

    @property
    def reaches(self) -> frozenset[str]:
        return frozenset({"pooling"}) if self.detached else super().reaches

    def build(self, *, width: int) -> nn.Module:
        return LSTMPool(self, width=width)


class MeanPool(nn.Module):
    """The mean over the token axis."""

    def forward(self, tokens: Tokens) -> Float[Tensor, "b d"]:
        return _mean(tokens.values, keep=tokens.keep)


class LSTMPool(nn.Module):
    """See `LSTMPooling`."""

    def __init__(self, spec: LSTMPooling, *, width: int) -> None:
        super().__init__()
        self.detached = spec.detached
        self.lstm = nn.LSTM(width, spec.hidden, spec.layers, batch_first=True)

    def forward(self, tokens: Tokens) -> Float[Tensor, "b d"]:
        values = tokens.values.detach() if self.detached else tokens.values
        (clips, _, width), bins = values.shape, tokens.grid[0]
        keep = None if tokens.keep is None else tokens.keep.reshape(clips * bins, -1)
        means = _mean(values.reshape(clips * bins, -1, width), keep=keep)
        steps: Tensor = self.lstm(means.reshape(clips, bins, width))[0]
        return steps[:, -1]


def _mean(values: Float[Tensor, "b n d"], *, keep: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b d"]:
    """The mean over the tokens that are kept."""
    if keep is None:
        return values.mean(dim=1)
    weight = keep.to(values.dtype)[..., None]
    return (values * weight).sum(dim=1) / weight.sum(dim=1)


class AttentivePool(nn.Module):
    """Multi-head attention of one learned query, with the key and value projections folded out of the token axis.

    Equal to `nn.MultiheadAttention(query, tokens, tokens)` followed by LayerNorm, with the same state dict, because
    both projections commute with the sum over tokens: score_i = (W_k^T W_q q) . x_i / sqrt(d_h) up to a constant that
    softmax drops, and the output is W_v (sum_i w_i x_i) + b_v sum_i w_i (the weights do not sum to 1 under dropout).
    K and V are never stored: 2 n d h multiply-adds per clip instead of 2 n d^2.

    Tap point: `attention_map` passes the weights after softmax, before dropout, as Float[b h n].
    """

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"AttentivePooling.heads={heads} does not divide the width {width}")
        self.heads, self.dropout = heads, dropout
        self.query = nn.Parameter(torch.empty(1, 1, width))
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)  # holds the parameters
        self.norm = nn.LayerNorm(width)
        self.attention_map = nn.Identity()
        nn.init.normal_(self.query, std=0.02)

    def forward(self, tokens: Tokens) -> Float[Tensor, "b d"]:
        x = tokens.values
        scores_bhn = torch.einsum("hd,bnd->bhn", self._folded_query().to(x.dtype), x)
        if tokens.keep is not None:
            scores_bhn = scores_bhn.masked_fill(~tokens.keep[:, None], -torch.inf)
        weights_bhn = self.attention_map(scores_bhn.to(torch.promote_types(x.dtype, torch.float32)).softmax(-1))
        weights_bhn = F.dropout(weights_bhn, self.dropout, self.training)
        mixed_bhd = torch.bmm(weights_bhn.to(x.dtype), x)
        pooled: Tensor = self.norm(self._project(mixed_bhd, total=weights_bhn.sum(-1)))
        return pooled

    def _folded_query(self) -> Float[Tensor, "h d"]:
        width = self.query.shape[-1]
        w_query, w_key, _ = self.attention.in_proj_weight.chunk(3)
        query = F.linear(self.query[0, 0], w_query, self.attention.in_proj_bias[:width])
        query_he = query.view(self.heads, -1) / math.sqrt(width // self.heads)
        return torch.einsum("he,hed->hd", query_he, w_key.view(self.heads, -1, width))

    def _project(self, mixed: Float[Tensor, "b h d"], *, total: Float[Tensor, "b h"]) -> Float[Tensor, "b d"]:
        width = self.query.shape[-1]
        w_value = self.attention.in_proj_weight[2 * width :].view(self.heads, -1, width)
        b_value = self.attention.in_proj_bias[2 * width :].view(self.heads, -1)
        values_bhe = torch.einsum("bhd,hed->bhe", mixed.to(w_value.dtype), w_value)
        values_bhe = values_bhe + total.to(w_value.dtype)[..., None] * b_value
        out: Tensor = self.attention.out_proj(values_bhe.flatten(1))
        return out
