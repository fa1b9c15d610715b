"""Heads: what is read from a clip's tokens. The criteria's head gives one raw logit per criterion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from calot.config.fields import FractionBelowOne, Key, LearningRate, Since, Size
from calot.criteria import CRITERIA
from calot.models.dropout import Regularised
from calot.models.pooling import Pooling
from calot.types import CRITERIA_HEAD, Masks, Tokens


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a head may read of some clips: every token, one pooled vector per clip, and the masks given with them.

    `pool` makes the vectors when the first head asks for them; `bin_of` gives the temporal bins that hold some frames.
    """

    tokens: Tokens
    masks: Masks | None
    bin_of: Callable[[Int[Tensor, "b m"]], Int[Tensor, "b m"]]
    pool: Callable[[], Float[Tensor, "b d"]]

    @cached_property
    def pooled(self) -> Float[Tensor, "b d"]:
        """One vector per clip."""
        return self.pool()


@dataclass(frozen=True, kw_only=True)
class Head(Regularised, ABC):
    """Reads a clip; `build` gives its module for a width, `read` says what the module is given.

    `name` is that of its scores, parameter group and tensors; the criteria's is "head". `lr` is its own learning rate,
    None the stage's. One that `reads_tokens` is built for their width, any other for the pooled vector's.
    """

    reads_masks: ClassVar[bool] = False
    reads_tokens: ClassVar[bool] = False

    name: Annotated[Key, Since("0.2.0", before=CRITERIA_HEAD)] = CRITERIA_HEAD
    lr: Annotated[LearningRate | None, Since("0.2.0")] = None

    @abstractmethod
    def build(self, *, width: int) -> nn.Module:
        """The module; from `Float[b d]` to raw scores `Float[b ...]` unless `read` says otherwise."""

    def read(self, module: nn.Module, features: Features) -> Tensor | None:
        """The head's raw scores for some clips, first axis clips; None where there is nothing for it to read."""
        scores: Tensor = module(features.pooled)
        return scores

    def reaches(self, pooling: Pooling) -> frozenset[str]:
        """The parts of the model that a gradient of its scores reaches."""
        return frozenset({self.name}) | (frozenset({"backbone"}) if self.reads_tokens else pooling.reaches)

    def narrowed(self, ratio: float) -> Head:
        """The same for a backbone whose width is this share of the one it was written for."""
        return self


@dataclass(frozen=True, kw_only=True)
class LinearHead(Head):
    """LayerNorm, unless left out, and one linear map."""

    norm: Annotated[bool, Since("0.2.0", before=True)] = True

    def build(self, *, width: int) -> nn.Module:
        norm = [nn.LayerNorm(width)] if self.norm else []
        return _xavier(nn.Sequential(*norm, nn.Linear(width, len(CRITERIA))))


@dataclass(frozen=True, kw_only=True)
class FrameHead(Head):
    """One linear map of a single frame's vector: the mean token of the clip's last temporal bin."""

    reads_tokens: ClassVar[bool] = True

    name: Key = "frame"

    def build(self, *, width: int) -> nn.Module:
        return _xavier(nn.Sequential(nn.Linear(width, len(CRITERIA))))

    def read(self, module: nn.Module, features: Features) -> Tensor:
        _, height, width = features.tokens.grid
        scores: Tensor = module(features.tokens.values[:, -height * width :].mean(dim=1))
        return scores


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


def reached(parts: frozenset[str], *, heads: Mapping[str, Head], pooling: Pooling) -> frozenset[str]:
    """Of the parts that a loss may reach, those that it does: it gets to backbone and pooling through the heads that it
    reads, where it reads any."""
    through = [heads[name].reaches(pooling) for name in parts & heads.keys()]
    return parts & frozenset().union(*through) if through else parts


def _xavier(module: nn.Sequential) -> nn.Sequential:
    for layer in module:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return module
