"""Do components of one's own, which calot has never seen, train as calot's do?

An experiment of a user's: loss, head, pooling, sampler, backbone, augmentation and label rule are all defined here.
    calot train tests/helpers/own_components.py --data ROOT --scale tiny
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from calot.config.fields import Fraction, FractionBelowOne, Range, Size
from calot.criteria import CRITERIA
from calot.data.clips import ClipLabels, LabelRule
from calot.data.sampling import Sampler
from calot.data.transforms import Augmentation
from calot.experiment import Experiment
from calot.models.backbones.protocol import Backbone, BackboneSpec, Layout
from calot.models.heads import Head
from calot.models.pooling import Pooling
from calot.train.losses import Loss
from calot.train.stage import Stage
from calot.types import Batch, Outputs, Tokens


@dataclass(frozen=True, kw_only=True)
class Hinge(Loss):
    """Squared hinge around `margin`, averaged over clips and criteria."""

    margin: Annotated[float, Range(gt=0, le=10)] = 1.0

    def __call__(self, outputs: Outputs, batch: Batch) -> Tensor:
        return F.relu(self.margin - outputs.logits * (2 * batch.labels - 1)).square().mean()


@dataclass(frozen=True, kw_only=True)
class Cosine(Head):
    """The cosine to one learned direction per criterion, times `sharpness`."""

    sharpness: Annotated[float, Range(gt=0, le=100)] = 8.0

    def build(self, *, width: int) -> nn.Module:
        return _Cosine(width=width, sharpness=self.sharpness)


class _Cosine(nn.Module):
    def __init__(self, *, width: int, sharpness: float) -> None:
        super().__init__()
        self.directions, self.sharpness = nn.Parameter(torch.randn(len(CRITERIA), width)), sharpness

    def forward(self, pooled: Tensor) -> Tensor:
        return self.sharpness * F.normalize(pooled, dim=-1) @ F.normalize(self.directions, dim=-1).T


@dataclass(frozen=True, kw_only=True)
class GatedPooling(Pooling):
    """A mean weighted by a learned gate per token."""

    dropout: FractionBelowOne = 0.1

    def build(self, *, width: int) -> nn.Module:
        return _Gate(width=width, dropout=self.dropout)


class _Gate(nn.Module):
    def __init__(self, *, width: int, dropout: float) -> None:
        super().__init__()
        self.gate, self.dropout = nn.Linear(width, 1), nn.Dropout(dropout)

    def forward(self, tokens: Tokens) -> Tensor:
        weights = self.gate(tokens.values).squeeze(-1).softmax(-1)
        return self.dropout(torch.einsum("bn,bnd->bd", weights, tokens.values))


@dataclass(frozen=True)
class HalfOfThem(Sampler):
    """`share` of the clips, another choice each epoch."""

    share: Annotated[float, Range(gt=0, le=1)] = 0.5

    def order(self, labels: NDArray[np.float32], *, rng: Generator) -> NDArray[np.int64]:
        return rng.choice(len(labels), size=len(labels), p=self.expected(labels)).astype(np.int64)

    def expected(self, labels: NDArray[np.float32]) -> NDArray[np.float64]:
        weight = 1 + self.share * (labels >= 0.5).any(axis=1)
        return weight / weight.sum()


@dataclass(frozen=True)
class Darken(Augmentation):
    """Each clip's brightness times a draw from 1 - `most` to 1."""

    most: Fraction = 0.3

    def __call__(self, batch: Batch, *, rngs: Sequence[Generator]) -> Batch:
        factors = torch.tensor([1 - self.most * rng.random() for rng in rngs]).view(-1, 1, 1, 1, 1)
        return replace(batch, video=(batch.video * factors).to(torch.uint8))


@dataclass(frozen=True)
class LastFrames(LabelRule):
    """The majority over a clip's last `frames` frames."""

    frames: Annotated[int, Range(ge=1, le=64)] = 4

    def __call__(self, clips: ClipLabels) -> NDArray[np.float32]:
        return (clips.majority[:, -self.frames :].mean(axis=1) > 0.5).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Convolutions(BackboneSpec):
    """Patches by one convolution, then layers that mix each token by itself and with its neighbours."""

    name: ClassVar[str] = "Convolutions"
    layout: ClassVar[Layout] = Layout(
        layers="layers", embedding="embedding", final_norm="norm", attention=None, linears={"fc1": "up", "fc2": "down"}
    )

    size: Annotated[int, Range(ge=1, le=4096)] = 256
    frames: Annotated[int, Range(ge=1, le=1024)] = 16
    width: Size = 256
    layers: Annotated[int, Range(ge=1, le=100)] = 6
    patch: Annotated[int, Range(ge=1, le=64)] = 16

    def __post_init__(self) -> None:
        if self.size % self.patch or self.frames % 2:
            raise ValueError(f"size={self.size} needs a multiple of patch={self.patch}, frames={self.frames} of 2")

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.frames // 2, self.size // self.patch, self.size // self.patch

    def build(self) -> Backbone:
        return self.build_without_weights()

    def build_without_weights(self) -> Backbone:
        return Backbone(_Network(self), spec=self)

    def encode(self, network: Any, video: Tensor) -> Tensor:
        out: Tensor = network(video.transpose(1, 2))
        return out

    def at_tiny_scale(self) -> "Convolutions":
        return replace(self, size=64, frames=8, width=32, layers=2, patch=16)

    def describe(self) -> str:
        return f"{self.name}, {self.layers} layers, width {self.width}"


class _Layer(nn.Module):
    def __init__(self, width: int, *, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.mix = nn.Conv3d(width, width, 3, padding=1, groups=width)
        self.up, self.down, self.norm = nn.Linear(width, 2 * width), nn.Linear(2 * width, width), nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        volume = tokens.transpose(1, 2).unflatten(2, self.grid)
        tokens = tokens + self.mix(volume).flatten(2).transpose(1, 2)
        return tokens + self.down(F.gelu(self.up(self.norm(tokens))))


class _Network(nn.Module):
    def __init__(self, spec: Convolutions) -> None:
        super().__init__()
        step = (2, spec.patch, spec.patch)
        self.embedding = nn.Conv3d(3, spec.width, step, stride=step)
        self.layers = nn.ModuleList(_Layer(spec.width, grid=spec.grid) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(spec.width)

    def forward(self, video: Tensor) -> Tensor:
        tokens = self.embedding(video).flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)


DEFAULTS: Mapping[str, Any] = {"weight_decay": 0.05, "epochs": 15}

experiment = Experiment(
    name="own_components",
    label=LastFrames(),
    augment=(Darken(),),
    sampler=HalfOfThem(),
    backbone=Convolutions(),
    pooling=GatedPooling(),
    head=Cosine(),
    loss=Hinge(),
    train=Stage(**DEFAULTS),
)
