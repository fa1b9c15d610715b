"""Where between masks and tokens the criteria get lost: one simple classifier on four kinds of features of one clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from calot.analysis.explaining.part import ExplainPart, Subject, spread_over_videos
from calot.criteria import IGNORED, MASK_CLASSES
from calot.models.masking import predicted_classes
from calot.statistics.findings import Findings
from calot.statistics.gap import ALL_TOKENS, GAPS, INSIDE, OWN_HEAD, PREDICTED, TRUE, gap_sentences
from calot.statistics.probing import Probes, probe_features
from calot.types import MASK_PIXELS, Batch, Outputs, Tokens, is_anatomy


@dataclass(frozen=True, kw_only=True)
class FeatureGap(ExplainPart):
    """At most `most` clips with a mask, evenly over videos."""

    name: str = "feature_gap"
    most: int = 2000

    def measure(self, subject: Subject) -> Findings:
        known = np.flatnonzero((subject.table.majority >= 0).all(axis=1) & subject.masked)
        if not len(known):
            return Findings(
                facts={"absent": f"No labelled clip of {subject.split} has a mask: there is no gap to measure."}
            )
        chosen = spread_over_videos(subject.table, among=known, count=self.most)
        dataset = subject.dataset(chosen, masks=True)
        parts: dict[str, list[NDArray[np.float64]]] = {}
        for outputs, batch in subject.passes(dataset, label="features of masks and tokens"):
            for name, values in _features(outputs, batch).items():
                parts.setdefault(name, []).append(values)
        kinds = {name: np.concatenate(held) for name, held in parts.items()}
        table = dataset.table
        with subject.ui.task("probes of masks and tokens") as advance:
            given, pairs = {OWN_HEAD: subject.logits[chosen].astype(np.float64)}, list(GAPS)
            found = probe_features(kinds, labels=table.majority, videos=table.videos, given=given, pairs=pairs)
            advance(1, 1)
        assert dataset.masks is not None
        facts: dict[str, Any] = {
            "clips": found.clips,
            "videos": found.videos,
            "clips_of_split": len(subject.table),
            "human_masks": int(dataset.masks.real.sum()),
            "widths": {name: values.shape[1] for name, values in kinds.items()},
            "no_decoder": PREDICTED not in kinds,
            "sentences": gap_sentences(found),
        }
        return Findings(facts=facts, tables=_tables(found))


def class_places(values: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of masks `(n, h, w)` of training classes, by class 1 to 4: whether it is there, its share of the pixels that are
    not ignored, its mean row and column (from 0 to 1) and their standard deviations; the middle and 0 where absent."""
    n, height, width = values.shape
    valid = np.maximum((values != IGNORED).sum(axis=(1, 2)), 1)
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    found = []
    for k in range(1, len(MASK_CLASSES)):
        own = values == k
        count = own.sum(axis=(1, 2))
        held, safe = count > 0, np.maximum(count, 1)
        by_row, by_column = own.sum(axis=2), own.sum(axis=1)
        middle = [np.where(held, (by @ at) / safe, 0.5) for by, at in ((by_row, rows), (by_column, columns))]
        square = [(by @ at**2) / safe for by, at in ((by_row, rows), (by_column, columns))]
        spread = [np.where(held, np.sqrt(np.maximum(q - m**2, 0)), 0.0) for q, m in zip(square, middle, strict=True)]
        found += [held.astype(np.float64), count / valid, *middle, *spread]
    return np.stack(found, axis=1).reshape(n, -1)


def _features(outputs: Outputs, batch: Batch) -> Mapping[str, NDArray[np.float64]]:
    assert batch.masks is not None
    true = batch.masks.values[:, 0]
    found = {TRUE: class_places(true.cpu().numpy())}
    scores = outputs.scores.get("segmentation")
    if scores is not None:
        found[PREDICTED] = class_places(predicted_classes(scores[:, :1])[:, 0].cpu().numpy())
    return found | {
        INSIDE: pooled_inside(outputs.tokens, is_anatomy(true)).double().cpu().numpy(),
        ALL_TOKENS: outputs.tokens.values.double().mean(dim=1).cpu().numpy(),
    }


def pooled_inside(tokens: Tokens, anatomy: Tensor) -> Tensor:
    """Each clip's mean token `(b, d + 1)` over the anatomy of a mask `(b, h, w)`, tokens weighted by the share of their
    pixels, in all temporal bins; the last column says whether there is any, and zeros stand for it where there is none.
    """
    weight = F.avg_pool2d(anatomy.float()[:, None], MASK_PIXELS).flatten(1).repeat(1, tokens.grid[0]).double()
    total = weight.sum(dim=1, keepdim=True)
    mean = torch.einsum("bn,bnd->bd", weight, tokens.values.double()) / total.clamp(min=1e-9)
    return torch.cat([mean, (total > 0).double()], dim=1)


def _tables(found: Probes) -> dict[str, pl.DataFrame]:
    schema: dict[str, Any] = {"criterion": pl.String, "reason": pl.String}
    schema |= dict.fromkeys(("value", "low", "high"), pl.Float64)
    rows = {"scores": [s.row() for s in found.scores], "differences": [d.row() for d in found.differences]}
    return {n: pl.DataFrame(r, schema_overrides=schema, infer_schema_length=None) for n, r in rows.items()}


PART = FeatureGap()
