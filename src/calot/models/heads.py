"""From one vector per clip to one raw logit per criterion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from torch import nn

from calot.config.fields import FractionBelowOne, Size
from calot.criteria import CRITERIA
from calot.models.dropout import Regularised


@dataclass(frozen=True, kw_only=True)
class Head(Regularised, ABC):
    """A classifier of pooled vectors; `build` gives the module for a width."""

    @abstractmethod
    def build(self, *, width: int) -> nn.Module:
        """A module from `Float[b d]` to raw logits `Float[b k]`."""

    def narrowed(self, ratio: float) -> Head:
        """The same for a backbone whose width is this share of the one it was written for."""
        return self


@dataclass(frozen=True, kw_only=True)
class LinearHead(Head):
    """LayerNorm and one linear map."""

    def build(self, *, width: int) -> nn.Module:
        return _xavier(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(CRITERIA))))


@dataclass(frozen=True, kw_only=True)
class MLPHead(Head):
    """LayerNorm, Linear, GELU, dropout, Linear; Xavier weights, zero biases."""

    hidden: Size = 512
    dropout: FractionBelowOne = 0.5

    def narrowed(self, ratio: float) -> MLPHead:
        return replace(self, hidden=max(8, round(self.hidden * ratio)))

    def build(self, *, width: int) -> nn.Module:
        layers = [nn.LayerNorm(width), nn.Linear(width, self.hidden), nn.GELU(), nn.Dropout(self.dropout)]
        return _xavier(nn.Sequential(*layers, nn.Linear(self.hidden, len(CRITERIA))))


def _xavier(module: nn.Sequential) -> nn.Sequential:
    for layer in module:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return module
