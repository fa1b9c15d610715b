"""Attention supervision as loss terms: where the encoder's queries look, in the layers named."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from calot.config.fields import Count, Fraction, FractionBelowOne, LayerNumbers, NonNegative, Range
from calot.models.masking import anatomy_tokens
from calot.train import supervision
from calot.train.losses import Loss
from calot.types import Batch, Masks, Outputs, QueryKey, is_anatomy

Grid = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class AttentionLoss(Loss):
    """A mean over supervised clips and `layers` (-1 is the last), from `first_epoch` on, counted from 1; an epoch
    before it cannot be the best.

    Supervised are clips whose masks hold anatomy (classes 1 to 4) on at least `min_coverage` of their pixels. The
    queries and keys are those the model uses, after LoRA and RoPE, with gradient (the study's were detached).
    """

    reaches: ClassVar[frozenset[str]] = frozenset({"backbone"})

    weight: NonNegative = 0.1
    layers: LayerNumbers = (-1,)
    first_epoch: Count = 2
    min_coverage: Fraction = 0.01

    @abstractmethod
    def per_clip(self, qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
        """The term of each clip; `target` is 1 on the places of anatomy, row by row."""

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        missing = [n for n in self.layers if outputs.attention is None or n not in outputs.attention]
        if missing or outputs.attention is None or batch.masks is None:
            raise ValueError(f"{type(self).__name__} needs masks and the queries and keys of layers {missing}")
        chosen = self.supervised(batch.masks).nonzero().flatten()
        target = anatomy_tokens(batch.masks.values[chosen]).to(outputs.logits.dtype)
        each = [self.per_clip(outputs.attention[n].of(chosen), target, grid=outputs.tokens.grid) for n in self.layers]
        return torch.stack(each).mean()

    def neutral(self) -> AttentionLoss:
        """The term with no weight."""
        return replace(self, weight=0.0)

    def units(self, batch: Batch) -> float:
        return 0.0 if batch.masks is None else float(self.supervised(batch.masks).sum())

    def supervised(self, masks: Masks) -> Bool[Tensor, " b"]:
        """Which clips have a mask with enough anatomy."""
        covered = is_anatomy(masks.values).any(dim=1).float().mean(dim=(1, 2))
        return masks.complete & (covered >= self.min_coverage) & (covered > 0)

    def at_depth(self, *, layers: int, of: int) -> AttentionLoss:
        scaled = {n if n == -1 else min(layers - 1, (n % of) * layers // of) for n in self.layers}
        return replace(self, layers=tuple(sorted(scaled)))


@dataclass(frozen=True, kw_only=True)
class AttentionKL(AttentionLoss):
    """KL(target || received): the target uniform over the anatomy's patches, the attention received by each patch
    averaged over heads, queries and temporal bins and renormalised over the grid."""

    def per_clip(self, qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
        return supervision.attention_kl(qk, target, grid=grid)


@dataclass(frozen=True, kw_only=True)
class AttentionMSE(AttentionLoss):
    """Mean squared error between the same two distributions; small by nature, so that it needs a large weight."""

    def per_clip(self, qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
        return supervision.attention_mse(qk, target, grid=grid)


@dataclass(frozen=True, kw_only=True)
class AttentionFocalMSE(AttentionLoss):
    """The same, each place weighted by its relative difference to the power `gamma`."""

    gamma: Annotated[float, Range(ge=0, le=100)] = 2.0

    def per_clip(self, qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
        return supervision.attention_focal_mse(qk, target, grid=grid, gamma=self.gamma)


@dataclass(frozen=True, kw_only=True)
class AttentionEntropyPenalty(AttentionLoss):
    """How far each query's normalised entropy lies above `threshold`; it asks for focus, not for a place."""

    threshold: FractionBelowOne = 0.7

    def per_clip(self, qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
        return supervision.entropy_penalty(qk, threshold=self.threshold)


@dataclass(frozen=True, kw_only=True)
class AttentionLogMass(AttentionLoss):
    """-log of the share of attention that falls on the anatomy; fused, without an averaged map."""

    def per_clip(self, qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
        return supervision.log_mass(qk, target, grid=grid)
