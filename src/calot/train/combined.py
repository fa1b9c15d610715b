"""Several terms in one loss: the criteria, the decoder's masks, the encoder's attention."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from calot.train.attention_losses import AttentionLoss
from calot.train.losses import BCE, Loss, SegmentationLoss, effective_loss, term_units
from calot.types import Batch, Outputs

_EVERY_TERM = 10**9  # an epoch by which each term has begun


@dataclass(frozen=True, kw_only=True)
class CombinedLoss(Loss):
    """The criteria's loss and, each with its own weight, the terms beside it."""

    criteria: Loss = BCE()
    segmentation: SegmentationLoss | None = None
    attention: AttentionLoss | None = None

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """The sum of all terms that have units in this batch."""
        units = term_units(self, [batch], epoch=_EVERY_TERM)
        return effective_loss(self, outputs, batch, units=units, epoch=_EVERY_TERM).total

    def begun(self, *, epoch: int) -> bool:
        return self.attention is None or epoch + 1 >= self.attention.first_epoch

    def terms(self, *, epoch: int) -> dict[str, tuple[float, Loss]]:
        found: dict[str, tuple[float, Loss]] = {"criteria": (1.0, self.criteria)}
        if self.segmentation is not None:
            found["segmentation"] = (self.segmentation.weight, self.segmentation)
        if self.attention is not None and self.begun(epoch=epoch):
            found["attention"] = (self.attention.weight, self.attention)
        return found

    def at_depth(self, *, layers: int, of: int) -> CombinedLoss:
        attention = None if self.attention is None else self.attention.at_depth(layers=layers, of=of)
        return replace(self, attention=attention)
