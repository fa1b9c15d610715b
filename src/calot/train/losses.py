"""Losses. Each is a mean over units; `units` says how many, so that micro-batches add up to the whole batch's loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from calot.criteria import PerCriterion
from calot.types import Batch, Outputs


@dataclass(frozen=True, kw_only=True)
class Loss(ABC):
    """A mean over `units(batch)` things, so that an effective batch may be cut into parts without changing its step.

    loss = sum_i units_i / (sum_j units_j) * loss_i over parts i, term by term; `effective_loss` does it.
    """

    @abstractmethod
    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """The mean loss of this batch."""

    def units(self, batch: Batch) -> float:
        """What the mean runs over: the clips, unless a loss says otherwise."""
        return float(len(batch))

    def terms(self) -> dict[str, tuple[float, Loss]]:
        """The weighted terms this loss adds up, by name; a single loss is its own only term."""
        return {type(self).__name__: (1.0, self)}


@dataclass(frozen=True, kw_only=True)
class BCE(Loss):
    """Binary cross-entropy, averaged over clips and criteria; `pos_weight` multiplies a criterion's positive term."""

    pos_weight: PerCriterion | None = None

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        weight = None if self.pos_weight is None else outputs.logits.new_tensor(tuple(self.pos_weight))
        return F.binary_cross_entropy_with_logits(outputs.logits, batch.labels, pos_weight=weight)


@dataclass(frozen=True, kw_only=True)
class FocalLoss(Loss):
    """Focal loss, averaged over clips and criteria; see `focal_bce`. `alpha` may differ by criterion."""

    alpha: PerCriterion | float | None = 0.25
    gamma: float = 2.0

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        alpha = tuple(self.alpha) if isinstance(self.alpha, PerCriterion) else self.alpha
        weight = None if alpha is None else outputs.logits.new_tensor(alpha)
        return focal_bce(outputs.logits, batch.labels, gamma=self.gamma, alpha=weight).mean()


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


def term_units(loss: Loss, parts: Sequence[Batch]) -> dict[str, float]:
    """What each term's mean runs over in an effective batch given in parts."""
    return {name: sum(term.units(part) for part in parts) for name, (_, term) in loss.terms().items()}


def effective_loss(loss: Loss, outputs: Outputs, part: Batch, *, units: dict[str, float]) -> Float[Tensor, ""]:
    """This part's share of the effective batch's loss; the shares of all parts add up to the loss of the whole."""
    total = outputs.logits.new_zeros(())
    for name, (weight, term) in loss.terms().items():
        if (here := term.units(part)) > 0:
            total = total + weight * here / units[name] * term(outputs, part)
    return total
