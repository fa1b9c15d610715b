"""One stage of training: what adapts, how it is optimised, when it stops."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from calot.config import fields
from calot.config.component import Component
from calot.config.fields import Count, LearningRate, NonNegative, Range, Since
from calot.identity import user_path
from calot.models.adaptation import Adaptation, Frozen, ParameterGroup
from calot.models.backbones.protocol import FRESH, Backbone
from calot.train.optim import Decayed


@dataclass(frozen=True, kw_only=True)
class Stage(Component):
    """Settings of one stage. `lr` is that of pooling and head; the adaptation carries the backbone's.

    `batch` is the effective batch, one optimiser step; how it is cut into micro-batches is a compute setting.
    `decayed`: whether weight decay acts on all that trains, or on matrices alone and not on biases and norms.
    `warmup` counts epochs and may be a fraction. `patience`: epochs without a better val macro mAP before stopping.
    `score_every`: val is scored after each such epoch and the last; only these can be chosen, or end the stage.
    """

    adaptation: Adaptation = Frozen()
    epochs: Annotated[int, Range(ge=1, le=100_000)] = 15
    lr: LearningRate = 5e-4
    weight_decay: Annotated[float, Range(ge=0, le=100)] = 0.1
    decayed: Annotated[Decayed, Since("0.2.0", before="all")] = "all"
    warmup: Annotated[float, Range(ge=0, le=100_000)] = 2.0
    min_lr: Annotated[float, Range(ge=0, le=100)] = 1e-6
    batch: Count = 32
    patience: Count = 5
    clip_norm: Annotated[float, Range(gt=0, le=1e6)] = 1.0
    score_every: Annotated[Count, Since("0.2.0", before=1)] = 1

    def __post_init__(self) -> None:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr={self.min_lr} is above lr={self.lr}: a rate that falls to it starts above it")

    def idle(self) -> tuple[str, ...]:
        return () if self.weight_decay else ("decayed",)

    def adapt(self, backbone: Backbone) -> tuple[ParameterGroup, ...]:
        """Prepare the backbone for this stage and return what of it trains: the adaptation's groups and, at `lr`, the
        parts that no published weights hold."""
        groups = self.adaptation.apply(backbone)
        for parameter in backbone.fresh:
            parameter.requires_grad_(True)
        return (*groups, ParameterGroup("backbone.fresh", backbone.fresh, self.lr)) if backbone.fresh else groups

    def declared(self, backbone: Backbone) -> dict[str, int]:
        """How many parameters of the backbone are to train, by target."""
        fresh = sum(p.numel() for p in backbone.fresh)
        return self.adaptation.declared(backbone) | ({FRESH: fresh} if fresh else {})

    def scores(self, *, epoch: int) -> bool:
        """Whether val is scored after an epoch, counted from 0."""
        return (epoch + 1) % self.score_every == 0 or epoch + 1 == self.epochs

    @property
    def scored(self) -> int:
        """How many epochs end with scores."""
        return -(-self.epochs // self.score_every)

    @property
    def without_gain(self) -> int:
        """How many epochs it trains when no scored one after the first is better, if it has so many."""
        return self.score_every * (1 - (-self.patience // self.score_every))

    @property
    def patience_binds(self) -> bool:
        """Whether a stage that never gets better ends before its last epoch."""
        return self.without_gain < self.epochs


@dataclass(frozen=True, kw_only=True)
class Compute(Component):
    """How the work is done. Not a treatment: none of it may change what is computed beyond rounding.

    `micro_batch`: clips per forward pass (None: the whole effective batch). `precision`: `auto` is bf16 on a GPU that
    has it, fp16 on an older one, fp32 on a CPU. `threads`: torch's CPU threads (None: its own choice).
    `gradient_checkpointing`: the backbone's layers are computed again in the backward pass, not kept.
    `checkpoint_every_s`: seconds between checkpoints within an epoch (0: after every step); each epoch ends with one.
    `cache`: folder for decoded frames and masks (None: `.calot` in the data set's own folder).
    `features`: a frozen backbone's tokens, or what enters the lowest layer that trains, are computed once per clip and
    kept there: `fp32`, `fp16` or `int8`; `off`: never; `auto`: in fp32, or else fp16, where that spares forward passes
    of at least half the layers and fits the disk.
    """

    micro_batch: Count | None = None
    gradient_checkpointing: bool = False
    workers: Annotated[int, Range(ge=0, le=1024)] = 0
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    threads: Annotated[int, Range(ge=1, le=1024)] | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    evaluation_batch: Count = 32
    train_subset: Count = 256
    checkpoint_every_s: NonNegative = 600.0
    cache: fields.Path | None = None
    features: Literal["auto", "off", "fp32", "fp16", "int8"] = "auto"

    @property
    def cache_folder(self) -> Path | None:
        return None if self.cache is None else user_path(Path(self.cache))
