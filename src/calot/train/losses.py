"""Losses. Each is a mean over units; `units` says how many, so that micro-batches add up to the whole batch's loss.

Every loss names the parts of the model that its gradient must reach; receipts hold it to that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from calot.config.component import Component
from calot.config.fields import Fraction, NonNegative, Range
from calot.criteria import MASK_CLASSES, PerCriterion
from calot.types import IGNORED, Batch, Masks, Outputs


@dataclass(frozen=True, kw_only=True)
class Loss(Component, ABC):
    """A mean over `units(batch)` things, so that an effective batch may be cut into parts without changing its step.

    loss = sum_i units_i / (sum_j units_j) * loss_i over parts i, term by term; `effective_loss` does it.
    `reaches` names the classifier's parts that get gradient from it (the backbone only where something of it trains).
    """

    reaches: ClassVar[frozenset[str]] = frozenset({"backbone", "pooling", "head"})

    @abstractmethod
    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """The mean loss of this batch."""

    def units(self, batch: Batch) -> float:
        """What the mean runs over: the clips, unless a loss says otherwise."""
        return float(len(batch))

    def at_depth(self, *, layers: int, of: int) -> Loss:
        """The same for an encoder of `layers` layers where this one was written for `of`."""
        return self

    def begun(self, *, epoch: int) -> bool:
        """Whether every term acts in an epoch (from 0); no epoch before can be the best, for it lacks the treatment."""
        return True

    def terms(self, *, epoch: int) -> dict[str, tuple[float, Loss]]:
        """The weighted terms this loss adds up in an epoch (from 0), by name; a single loss is its own only term."""
        return {"criteria": (1.0, self)}


@dataclass(frozen=True, kw_only=True)
class BCE(Loss):
    """Binary cross-entropy, averaged over clips and criteria; `pos_weight` multiplies a criterion's positive term."""

    pos_weight: Annotated[PerCriterion, Range(gt=0, le=1e6)] | None = None

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        weight = None if self.pos_weight is None else outputs.logits.new_tensor(tuple(self.pos_weight))
        return F.binary_cross_entropy_with_logits(outputs.logits, batch.labels, pos_weight=weight)

    def neutral(self) -> BCE:
        """Plain BCE in the same words."""
        return replace(self, pos_weight=PerCriterion())


@dataclass(frozen=True, kw_only=True)
class FocalLoss(Loss):
    """Focal loss, averaged over clips and criteria; see `focal_bce`. `alpha` may differ by criterion."""

    alpha: Annotated[PerCriterion, Range(ge=0, le=1)] | Fraction | None = 0.25
    gamma: Annotated[float, Range(ge=0, le=100)] = 2.0

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        alpha = tuple(self.alpha) if isinstance(self.alpha, PerCriterion) else self.alpha
        weight = None if alpha is None else outputs.logits.new_tensor(alpha)
        return focal_bce(outputs.logits, batch.labels, gamma=self.gamma, alpha=weight).mean()

    def neutral(self) -> FocalLoss:
        """Plain BCE in the same words."""
        return replace(self, alpha=None, gamma=0.0)


@dataclass(frozen=True, kw_only=True)
class SegmentationLoss(Loss):
    """Cross-entropy of the decoder's masks, averaged over the weights of their pixels; ignored pixels count nothing.

    A pixel weighs its class weight (order of `MASK_CLASSES`) times its layer's weight: of a mixed clip, each mask has
    its clip's share. A batch without masks has no units, and so no such term. `weight` is the term's own.
    """

    reaches: ClassVar[frozenset[str]] = frozenset({"backbone", "segmentation"})

    weight: NonNegative = 0.5
    class_weights: tuple[NonNegative, ...] = (0.1, 5.0, 3.0, 2.0, 2.0)

    def __post_init__(self) -> None:
        if len(self.class_weights) != len(MASK_CLASSES) or not any(self.class_weights):
            raise ValueError(f"class_weights={self.class_weights}: need {len(MASK_CLASSES)}, not all of them 0")

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        scores = outputs.scores.get("segmentation")
        if scores is None or batch.masks is None:
            raise ValueError("SegmentationLoss needs a segmentation decoder and masks: set experiment.segmentation")
        target, weight = batch.masks.values.flatten(0, 1).long(), self._pixel_weights(batch.masks)
        each = F.cross_entropy(scores.flatten(0, 1), target, reduction="none", ignore_index=IGNORED)
        total: Tensor = (each * weight.flatten(0, 1).to(each.dtype)).sum() / weight.sum().to(each.dtype)
        return total

    def units(self, batch: Batch) -> float:
        return 0.0 if batch.masks is None else float(self._pixel_weights(batch.masks).sum())

    def _pixel_weights(self, masks: Masks) -> Float[Tensor, "b m h w"]:
        by_id = torch.zeros(IGNORED + 1, dtype=torch.float64, device=masks.values.device)
        by_id[: len(self.class_weights)] = by_id.new_tensor(self.class_weights)
        return by_id[masks.values.long()] * masks.weight[..., None, None]


def focal_bce(
    logits: Float[Tensor, "b k"], labels: Float[Tensor, "b k"], *, gamma: float, alpha: Tensor | None = None
) -> Float[Tensor, "b k"]:
    """Binary focal loss (Lin et al. 2017, eq. 5); gamma=0 without alpha is plain BCE.

    -alpha_t (1 - p_t)^gamma log p_t, where alpha_t is alpha for positives and 1 - alpha for negatives: alpha 0.25
    weighs a positive a third as much as a negative. Soft labels enter as a mixture of both terms.
    """
    positive = torch.sigmoid(-logits).pow(gamma) * F.softplus(-logits)
    negative = torch.sigmoid(logits).pow(gamma) * F.softplus(logits)
    if alpha is not None:
        positive, negative = alpha * positive, (1 - alpha) * negative
    return labels * positive + (1 - labels) * negative


@dataclass(frozen=True)
class Share:
    """A part's share of an effective batch's loss, and the same by term (weighted, detached)."""

    total: Float[Tensor, ""]
    terms: dict[str, float]


def term_units(loss: Loss, parts: Sequence[Batch], *, epoch: int) -> dict[str, float]:
    """What each term's mean runs over in an effective batch given in parts."""
    return {name: sum(term.units(part) for part in parts) for name, (_, term) in loss.terms(epoch=epoch).items()}


def effective_loss(loss: Loss, outputs: Outputs, part: Batch, *, units: dict[str, float], epoch: int) -> Share:
    """This part's share of the effective batch's loss; the shares of all parts add up to the loss of the whole."""
    total, terms = outputs.logits.new_zeros(()), {}
    for name, (weight, term) in loss.terms(epoch=epoch).items():
        if (here := term.units(part)) > 0:
            value = weight * here / units[name] * term(outputs, part)
            total, terms[name] = total + value, float(value.detach())
    return Share(total, terms)


class LossMeter:
    """The mean loss over all the batches it is shown, term by term over each term's own units."""

    def __init__(self, loss: Loss, *, epoch: int) -> None:
        self.terms = loss.terms(epoch=epoch)
        self.sums = dict.fromkeys(self.terms, 0.0)
        self.units = dict.fromkeys(self.terms, 0.0)

    def __call__(self, outputs: Outputs, batch: Batch) -> None:
        for name, (_, term) in self.terms.items():
            if (here := term.units(batch)) > 0:
                self.sums[name] += here * float(term(outputs, batch))
                self.units[name] += here

    def mean(self) -> float:
        """The weighted sum of the terms' means; a term without units adds nothing."""
        return sum(weight * self.sums[n] / self.units[n] for n, (weight, _) in self.terms.items() if self.units[n])
