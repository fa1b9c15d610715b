"""Losses: means over units, so that an effective batch may be cut into parts; and weighted terms of them.

Every loss names the parts of the model that its gradient must reach; receipts check that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from calot.config.component import Component
from calot.config.fields import Count, Fraction, Key, NonNegative, Range, Since
from calot.criteria import MASK_CLASSES, PerCriterion
from calot.types import CRITERIA_HEAD, IGNORED, Batch, Masks, Outputs


@dataclass(frozen=True, kw_only=True)
class Loss(Component, ABC):
    """A mean over `units(batch)` things, so that an effective batch may be cut into parts without changing its step:

    loss = sum_i units_i / (sum_j units_j) * loss_i over parts i, term by term.
    """

    reads_masks: ClassVar[bool] = False
    combines: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """The mean loss of this batch."""

    @property
    def reaches(self) -> frozenset[str]:
        """The parts of the model that may get gradient from it: backbone (where something of it trains), pooling, heads
        by name.

        A loss that reads anything else than the criteria's logits says so here. What a head that it reads keeps from
        backbone or pooling is taken off by the model (`Classifier.reached`).
        """
        return frozenset({"backbone", "pooling", CRITERIA_HEAD})

    @property
    def observed_layers(self) -> tuple[int, ...]:
        """Encoder layers whose queries and keys it reads."""
        return ()

    def units(self, batch: Batch) -> float:
        """What the mean runs over: the clips, unless a loss says otherwise."""
        return float(len(batch))

    def at_depth(self, *, layers: int, of: int) -> Loss:
        """The same for an encoder of `layers` layers where this one was written for `of`."""
        return self

    def every_term(self) -> tuple[Term, ...]:
        """The terms this loss adds up; a single loss is its own only term."""
        return (Term(name="criteria", loss=self),)

    def active(self, *, epoch: int) -> tuple[Term, ...]:
        """The terms that act in an epoch (from 0)."""
        return tuple(term for term in self.every_term() if term.begun(epoch=epoch))

    def begun(self, *, epoch: int) -> bool:
        """Whether every term acts in an epoch (from 0); no epoch before can be the best, as it lacks the treatment."""
        return all(term.begun(epoch=epoch) for term in self.every_term())

    def from_the_start(self) -> Loss:
        """The same with every term acting from the first epoch on."""
        return self

    def with_term(self, term: Term) -> CombinedLoss:
        """The same with one more term, or with this one in place of the term of that name."""
        every = {t.name: t for t in self.every_term()} | {term.name: term}
        return CombinedLoss(terms=tuple(every.values()))


@dataclass(frozen=True, kw_only=True)
class Ramp(Component):
    """A weight that changes by `by` in `first_epoch` (counted from 1) and again in each later one; never below 0."""

    by: Annotated[float, Range(ge=-1e6, le=1e6)]
    first_epoch: Count = 1

    def applied(self, weight: float, *, epoch: int) -> float:
        """What a weight has become in an epoch (from 0)."""
        return max(0.0, weight + self.by * max(0, epoch + 2 - self.first_epoch))


@dataclass(frozen=True, kw_only=True)
class Term(Component):
    """A loss with a name, a weight, and the epoch (counted from 1) in which it begins to act; `change` moves the weight
    from epoch to epoch of a stage."""

    name: Key
    loss: Loss
    weight: NonNegative = 1.0
    first_epoch: Count = 1
    change: Annotated[Ramp | None, Since("0.2.0")] = None

    def __post_init__(self) -> None:
        if self.loss.combines:
            raise ValueError(f"Term.loss of {self.name}: terms hold single losses; put its terms beside this one")

    def begun(self, *, epoch: int) -> bool:
        """Whether it acts in an epoch (from 0)."""
        return epoch + 1 >= self.first_epoch

    def weight_in(self, *, epoch: int) -> float:
        """Its weight in an epoch (from 0) in which it acts."""
        return self.weight if self.change is None else self.change.applied(self.weight, epoch=epoch)

    def neutral(self) -> Term:
        """The term with no weight."""
        return replace(self, weight=0.0, change=None)


@dataclass(frozen=True, kw_only=True)
class CriteriaLoss(Loss):
    """A loss of the criteria's logits against the labels; `head` names the head whose scores it reads."""

    head: Annotated[Key, Since("0.2.0", before=CRITERIA_HEAD)] = CRITERIA_HEAD

    @property
    def reaches(self) -> frozenset[str]:
        return frozenset({"backbone", "pooling", self.head})


@dataclass(frozen=True, kw_only=True)
class BCE(CriteriaLoss):
    """Binary cross-entropy, averaged over clips and criteria; `pos_weight` multiplies a criterion's positive term,
    `weight` both of its terms."""

    pos_weight: Annotated[PerCriterion, Range(gt=0, le=1e6)] | None = None
    weight: Annotated[Annotated[PerCriterion, Range(gt=0, le=1e6)] | None, Since("0.2.0")] = None

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        logits = outputs.scores[self.head]
        weight, positive = (
            None if by is None else logits.new_tensor(tuple(by)) for by in (self.weight, self.pos_weight)
        )
        return F.binary_cross_entropy_with_logits(logits, batch.labels, weight=weight, pos_weight=positive)

    def neutral(self) -> BCE:
        """Plain BCE with the same fields."""
        return replace(self, pos_weight=PerCriterion(), weight=None)


@dataclass(frozen=True, kw_only=True)
class FocalLoss(CriteriaLoss):
    """Focal loss, averaged over clips and criteria; see `focal_bce`. `alpha` may differ by criterion."""

    alpha: Annotated[PerCriterion, Range(ge=0, le=1)] | Fraction | None = 0.25
    gamma: Annotated[float, Range(ge=0, le=100)] = 2.0

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        logits = outputs.scores[self.head]
        alpha = tuple(self.alpha) if isinstance(self.alpha, PerCriterion) else self.alpha
        weight = None if alpha is None else logits.new_tensor(alpha)
        return focal_bce(logits, batch.labels, gamma=self.gamma, alpha=weight).mean()

    def neutral(self) -> FocalLoss:
        """Plain BCE with the same fields."""
        return replace(self, alpha=None, gamma=0.0)


@dataclass(frozen=True, kw_only=True)
class SegmentationLoss(Loss):
    """Cross-entropy of a decoder's masks, averaged over the weights of their pixels; ignored pixels do not count.

    A pixel weighs its class weight (order of `MASK_CLASSES`) times its layer's weight: of a mixed clip, each mask has
    its clip's share. A batch without masks has no units, and so no such term. `head` is the decoder's name.
    """

    reads_masks: ClassVar[bool] = True

    head: Key = "segmentation"
    class_weights: tuple[NonNegative, ...] = (0.1, 5.0, 3.0, 2.0, 2.0)

    def __post_init__(self) -> None:
        if len(self.class_weights) != len(MASK_CLASSES) or not any(self.class_weights):
            raise ValueError(f"class_weights={self.class_weights}: need {len(MASK_CLASSES)}, not all of them 0")

    @property
    def reaches(self) -> frozenset[str]:
        return frozenset({"backbone", self.head})

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        scores = outputs.scores.get(self.head)
        if scores is None or batch.masks is None:
            raise ValueError(f"SegmentationLoss needs masks and a decoder among the heads, called {self.head!r}")
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


@dataclass(frozen=True, kw_only=True)
class CombinedLoss(Loss):
    """Any number of terms, each under its own name: `loss.terms.segmentation.weight=0.3` changes one."""

    combines: ClassVar[bool] = True

    terms: tuple[Term, ...] = (Term(name="criteria", loss=BCE()),)

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"CombinedLoss.terms: need at least one, each with a name of its own; got {names}")

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """The weighted sum of the terms that have units in this batch, with the weights of the first epoch."""
        total = outputs.tokens.values.new_zeros((), dtype=torch.float32)
        for term in self.terms:
            if term.loss.units(batch) > 0:
                total = total + term.weight_in(epoch=0) * term.loss(outputs, batch)
        return total

    @property
    def reads_masks(self) -> bool:  # type: ignore[override]
        return any(term.loss.reads_masks for term in self.terms)

    @property
    def reaches(self) -> frozenset[str]:
        return frozenset().union(*(term.loss.reaches for term in self.terms))

    @property
    def observed_layers(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(n for term in self.terms for n in term.loss.observed_layers))

    def every_term(self) -> tuple[Term, ...]:
        return self.terms

    def from_the_start(self) -> CombinedLoss:
        return replace(self, terms=tuple(replace(term, first_epoch=1) for term in self.terms))

    def at_depth(self, *, layers: int, of: int) -> CombinedLoss:
        scaled = (replace(term, loss=term.loss.at_depth(layers=layers, of=of)) for term in self.terms)
        return replace(self, terms=tuple(scaled))


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
