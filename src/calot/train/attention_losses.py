"""Losses of where the encoder's queries look, in the layers named: from its real queries and keys, with gradient.

In the functions `target` is 1 on the positions of anatomy and 0 elsewhere, on the height x width grid; soft weights
also work. Each position holds for all temporal bins. A clip without anatomy has no target: leave it out beforehand, by
its coverage.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from calot.config.fields import Fraction, FractionBelowOne, LayerNumbers, Range, Since, layers_at_depth
from calot.models.attention_statistics import attention_mass, normalised_entropy, received_attention
from calot.models.masking import MaskedPatches, anatomy_tokens
from calot.train.losses import Loss
from calot.types import Batch, Masks, Outputs, QueryKey, is_anatomy

Grid = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class AttentionLoss(Loss):
    """A mean over supervised clips and `layers` (-1 is the last).

    Supervised are clips whose masks hold anatomy (classes 1 to 4) on at least `min_coverage` of their pixels; `patches`
    says which patches are anatomy then. The queries and keys are those the model uses, after LoRA and RoPE, with
    gradient (the study's were detached).
    """

    reads_masks: ClassVar[bool] = True

    layers: LayerNumbers = (-1,)
    min_coverage: Fraction = 0.01
    patches: Annotated[MaskedPatches, Since("0.2.0", before="any pixel")] = "any pixel"

    @property
    def reaches(self) -> frozenset[str]:
        return frozenset({"backbone"})

    @property
    def observed_layers(self) -> tuple[int, ...]:
        return self.layers

    @abstractmethod
    def per_clip(self, qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
        """The term of each clip; `target` is 1 on the places of anatomy, row by row."""

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        missing = [n for n in self.layers if outputs.attention is None or n not in outputs.attention]
        if missing or outputs.attention is None or batch.masks is None:
            raise ValueError(f"{type(self).__name__} needs masks and the queries and keys of layers {missing}")
        chosen = self.supervised(batch.masks).nonzero().flatten()
        dtype = torch.promote_types(outputs.tokens.values.dtype, torch.float32)
        target = anatomy_tokens(batch.masks.values[chosen], by=self.patches).to(dtype)
        each = [self.per_clip(outputs.attention[n].of(chosen), target, grid=outputs.tokens.grid) for n in self.layers]
        return torch.stack(each).mean()

    def units(self, batch: Batch) -> float:
        return 0.0 if batch.masks is None else float(self.supervised(batch.masks).sum())

    def supervised(self, masks: Masks) -> Bool[Tensor, " b"]:
        """Which clips have a mask with enough anatomy."""
        covered = is_anatomy(masks.values).any(dim=1).float().mean(dim=(1, 2))
        somewhere = anatomy_tokens(masks.values, by=self.patches).any(dim=1)
        return masks.complete & (covered >= self.min_coverage) & somewhere

    def at_depth(self, *, layers: int, of: int) -> AttentionLoss:
        scaled = zip(self.layers, layers_at_depth(self.layers, layers=layers, of=of), strict=True)
        return replace(self, layers=tuple(sorted({n if n == -1 else there for n, there in scaled})))


@dataclass(frozen=True, kw_only=True)
class AttentionKL(AttentionLoss):
    """KL(target || received): the target uniform over the anatomy's patches, the attention received by each patch
    averaged over heads, queries and temporal bins and renormalised over the grid."""

    def per_clip(self, qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
        return attention_kl(qk, target, grid=grid)


@dataclass(frozen=True, kw_only=True)
class AttentionMSE(AttentionLoss):
    """Mean squared error between the same two distributions; small by nature, so that it needs a large weight."""

    def per_clip(self, qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
        return attention_mse(qk, target, grid=grid)


@dataclass(frozen=True, kw_only=True)
class AttentionFocalMSE(AttentionLoss):
    """The same, each place weighted by its relative difference to the power `gamma`."""

    gamma: Annotated[float, Range(ge=0, le=100)] = 2.0

    def per_clip(self, qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
        return attention_focal_mse(qk, target, grid=grid, gamma=self.gamma)


@dataclass(frozen=True, kw_only=True)
class AttentionTargetWeightedMSE(AttentionLoss):
    """The study's option: the mean squared error, each place weighted by 1 + `weight` where there is anatomy, 1
    elsewhere."""

    weight: Annotated[float, Range(ge=0, le=10_000)] = 10.0

    def per_clip(self, qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
        return attention_target_weighted_mse(qk, target, grid=grid, weight=self.weight)


@dataclass(frozen=True, kw_only=True)
class AttentionEntropyPenalty(AttentionLoss):
    """How far each query's normalised entropy lies above `threshold`; it asks for focus, not for a place."""

    threshold: FractionBelowOne = 0.7

    def per_clip(self, qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
        return entropy_penalty(qk, threshold=self.threshold)


@dataclass(frozen=True, kw_only=True)
class AttentionLogMass(AttentionLoss):
    """-log of the share of attention that falls on the anatomy; fused, without an averaged map."""

    def per_clip(self, qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
        return log_mass(qk, target, grid=grid)


def received_by_position(qk: QueryKey, *, grid: Grid) -> Float[Tensor, "b p"]:
    """Attention received by each position, averaged over heads and queries, summed over time; sums to 1."""
    received = received_attention(qk)
    received = received.reshape(received.shape[0], grid[0], grid[1] * grid[2]).sum(dim=1)
    return received / received.sum(dim=1, keepdim=True)


def attention_kl(qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
    """KL(target || received), in nats, with the target uniform over anatomy: sum_p t_p (log t_p - log r_p)."""
    received = received_by_position(qk, grid=grid)
    wanted = _distribution(target.to(received))
    received = received.clamp_min(torch.finfo(received.dtype).tiny)  # an underflow costs 87 nats, not infinity
    return (torch.xlogy(wanted, wanted) - wanted * received.log()).sum(dim=1)


def attention_mse(qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
    """Mean over positions of (t_p - r_p)^2.

    Small by nature: with anatomy on 20 of 256 positions and nearly uniform attention it is 1.8e-4, and its gradient
    into queries and keys 33,000 times smaller than that of `attention_kl`: its weight in a loss must make up for it.
    """
    return attention_focal_mse(qk, target, grid=grid, gamma=0.0)


def attention_focal_mse(
    qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid, gamma: float = 2.0
) -> Float[Tensor, " b"]:
    """Mean over positions of w_p d_p^2, with d = t - r and w_p = (|d_p| / max |d|)^gamma.

    The weight is relative to the clip's largest difference and takes no gradient: gamma chooses positions, not the
    term's size; gamma=0 is `attention_mse`.
    """
    received = received_by_position(qk, grid=grid)
    difference = _distribution(target.to(received)) - received
    size = difference.detach().abs()
    largest = size.amax(dim=1, keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)
    return ((size / largest).pow(gamma) * difference.square()).mean(dim=1)


def attention_target_weighted_mse(
    qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid, weight: float = 10.0
) -> Float[Tensor, " b"]:
    """Mean over positions of (1 + weight a_p) (t_p - r_p)^2, with a the anatomy (0 to 1) and t its distribution."""
    received = received_by_position(qk, grid=grid)
    difference = _distribution(target.to(received)) - received
    return ((1 + weight * target.to(received)) * difference.square()).mean(dim=1)


def entropy_penalty(qk: QueryKey, *, threshold: float = 0.7) -> Float[Tensor, " b"]:
    """Mean over heads and queries of how far the normalised entropy of each lies above `threshold`."""
    return F.relu(normalised_entropy(qk) - threshold).mean(dim=(1, 2))


def log_mass(qk: QueryKey, target: Float[Tensor, "b p"], *, grid: Grid) -> Float[Tensor, " b"]:
    """-log of the share of attention on anatomy, averaged over heads and queries: 0 where all of it is there."""
    _require_anatomy(target)
    mass = attention_mass(qk, target.repeat(1, grid[0])).mean(dim=(1, 2))
    return -mass.clamp_min(torch.finfo(mass.dtype).tiny).log()


def _distribution(target: Tensor) -> Tensor:
    _require_anatomy(target)
    return target / target.sum(dim=1, keepdim=True)


def _require_anatomy(target: Tensor) -> None:
    if empty := (target.sum(dim=1) <= 0).nonzero().flatten().tolist():
        raise ValueError(f"clips {empty} of the batch have no anatomy to attend to; leave them out by their coverage")
