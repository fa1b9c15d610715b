"""Whether the encoder attends to the anatomy: the share of attention on it, beside the share of the area it covers."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from calot.evaluation.predict import PassObserver
from calot.models.attention_statistics import attention_mass
from calot.models.masking import anatomy_tokens, over_time
from calot.types import Batch, Outputs, is_anatomy


@dataclass(frozen=True)
class ClipAttention:
    """One clip, by its place in its table: attention on the anatomy's tokens, and their share of all tokens."""

    index: int
    mass: float
    area: float


class AnatomyAttention(PassObserver):
    """Over the batches it is shown, each clip's attention mass on its true anatomy (classes 1 to 4).

    The mass is that of the queries and keys the model used, averaged over queries, heads and the layers that the
    classifier hands out. Uniform attention has a mass equal to the area; mass / area is the enrichment. Clips without
    a mask, or without anatomy on it, have neither.
    """

    def __init__(self) -> None:
        self.clips: list[ClipAttention] = []

    def read(self, outputs: Outputs, batch: Batch) -> list[ClipAttention]:
        """The clips of one batch that have both."""
        if not outputs.attention or batch.masks is None:
            return []
        seen = is_anatomy(batch.masks.values)
        chosen = (batch.masks.complete & seen.flatten(1).any(dim=1)).nonzero().flatten()
        if not len(chosen):
            return []
        anatomy = over_time(anatomy_tokens(batch.masks.values[chosen]), bins=outputs.tokens.grid[0]).float()
        layers = [attention_mass(qk.of(chosen), anatomy).mean(dim=(1, 2)) for qk in outputs.attention.values()]
        mass, area = torch.stack(layers).mean(dim=0), anatomy.mean(dim=1)
        rows = zip(batch.index[chosen].tolist(), mass.tolist(), area.tolist(), strict=True)
        return [ClipAttention(*row) for row in rows]

    def take(self, found: list[ClipAttention]) -> None:
        self.clips += found

    def columns(self) -> dict[str, float | None]:
        """Means over clips, for metrics.csv; nothing where no layer is handed out."""
        if not self.clips:
            return {}
        count = len(self.clips)
        return {
            "val_attention_on_anatomy": sum(c.mass for c in self.clips) / count,
            "val_anatomy_area": sum(c.area for c in self.clips) / count,
        }
