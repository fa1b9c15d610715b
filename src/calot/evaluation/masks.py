"""How well the decoder's masks match the true ones: one confusion matrix, intersection over union by class."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from calot.criteria import MASK_CLASSES
from calot.evaluation.predict import PassObserver
from calot.models.masking import predicted_classes
from calot.statistics.confusion import iou_of
from calot.types import IGNORED, Batch, Outputs


class MaskConfusion(PassObserver):
    """Counts mask pixels by true and predicted class over the batches it is shown; ignored pixels stay out."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros((len(MASK_CLASSES), len(MASK_CLASSES)), dtype=np.int64)
        self.clips, self.decoded = 0, False

    def read(self, outputs: Outputs, batch: Batch) -> tuple[int, NDArray[np.int64]] | None:
        """The clips with a mask, and their pixels' counts."""
        scores = outputs.scores.get("segmentation")
        if scores is None or batch.masks is None:
            return None
        clips = int((batch.masks.weight > 0).any(dim=1).sum())
        true, found = batch.masks.values, predicted_classes(scores)
        valid = true != IGNORED
        pairs = true[valid].long() * len(MASK_CLASSES) + found[valid].long()
        return clips, torch.bincount(pairs, minlength=self.counts.size).cpu().numpy().reshape(self.counts.shape)

    def take(self, found: tuple[int, NDArray[np.int64]] | None) -> None:
        if found is not None:
            self.decoded = True
            self.clips += found[0]
            self.counts += found[1]

    def iou(self) -> dict[str, float | None]:
        """Intersection over union of each class; None where no true mask has it."""
        found = iou_of(self.counts)
        return {c: None if np.isnan(v) else float(v) for c, v in zip(MASK_CLASSES, found, strict=True)}

    def mean_iou(self) -> float | None:
        """The mean over the classes that are defined, background included."""
        defined = [v for v in self.iou().values() if v is not None]
        return float(np.mean(defined)) if defined else None

    def columns(self) -> dict[str, float | None]:
        """For metrics.csv; nothing where no decoder was asked."""
        if not self.decoded:
            return {}
        return {"val_miou": self.mean_iou(), **{f"val_iou_{c}": v for c, v in self.iou().items()}}
