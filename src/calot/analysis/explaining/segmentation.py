"""The segmentation check: the decoder's masks against human ones, IoU by class, with the scores of the same clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from calot.analysis.explaining.part import ExplainPart, Subject, spread_over_videos
from calot.criteria import CRITERIA, MASK_CLASSES
from calot.models.classifier import Classifier
from calot.models.masking import predicted_classes
from calot.models.segmentation import SegmentationDecoder
from calot.statistics.confusion import iou_intervals, iou_of
from calot.statistics.findings import Findings
from calot.statistics.jackknife import interval_fields
from calot.statistics.metrics import sigmoid
from calot.types import IGNORED

_SIZE = len(MASK_CLASSES)


@dataclass(frozen=True, kw_only=True)
class SegmentationCheck(ExplainPart):
    """Every clip of the split that has a human mask is decoded; as many as `--clips` says are drawn."""

    name: str = "segmentation"

    def measure(self, subject: Subject) -> Findings:
        decoder = decoder_of(subject.model)
        if decoder is None:
            return Findings(facts={"absent": "This run has no segmentation decoder: there are no masks to check."})
        human = np.flatnonzero(subject.masked & subject.every_mask.real).astype(np.int64)
        if not len(human):
            said = f"No clip of {subject.split} has a human mask within its window: there is nothing to check against."
            return Findings(facts={"absent": said})
        read = _decoded(subject, human, decoder=decoder)
        drawn = spread_over_videos(subject.table, among=human, count=subject.clips)
        at = np.searchsorted(human, drawn)
        facts = _facts(read.counts, videos=subject.table.videos[human]) | {"clips": len(human), "decoder": decoder}
        return Findings(
            facts=facts,
            tables={"clips": _rows(subject, human, counts=read.counts, logits=read.logits), "classes": _classes(facts)},
            arrays={
                "clips": np.array([subject.clip_name(i) for i in drawn.tolist()]),
                "frames": _masked_frames(subject, drawn),
                "true": read.true[at],
                "predicted": read.predicted[at],
                "confusion": read.counts.sum(axis=0),
            },
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Decoded:
    """Of each clip: true and predicted classes `(n, h, w)`, their counts `(n, s, s)`, and the logits `(n, k)`."""

    true: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    counts: NDArray[np.int64]
    logits: NDArray[np.float32]


def decoder_of(model: Classifier) -> str | None:
    """The name of the head that draws masks; None where a model has none."""
    parts = model.parts.items()
    return next((name for name, module in parts if isinstance(module, SegmentationDecoder)), None)


def _decoded(subject: Subject, clips: NDArray[np.int64], *, decoder: str) -> _Decoded:
    true, predicted, counts, logits = [], [], [], []
    for outputs, batch in subject.passes(subject.dataset(clips, masks=True), label=f"masks of {len(clips)} clips"):
        assert batch.masks is not None
        found, held = predicted_classes(outputs.scores[decoder])[:, 0], batch.masks.values[:, 0]
        pairs = held.long() * _SIZE + found.long()
        for row, kept in zip(pairs, held != IGNORED, strict=True):
            counts.append(torch.bincount(row[kept], minlength=_SIZE**2).cpu().numpy().reshape(_SIZE, _SIZE))
        true.append(held.cpu().numpy())
        predicted.append(found.cpu().numpy())
        logits.append(outputs.logits.float().cpu().numpy())
    return _Decoded(
        true=np.concatenate(true),
        predicted=np.concatenate(predicted),
        counts=np.stack(counts),
        logits=np.concatenate(logits),
    )


def _facts(counts: NDArray[np.int64], *, videos: NDArray[np.str_]) -> dict[str, Any]:
    names = (*MASK_CLASSES, "mean")
    found = dict(zip(names, iou_intervals(counts, videos=videos), strict=True))
    pixels = counts.sum(axis=(0, 2))
    return {
        "iou": {name: interval_fields(one) for name, one in found.items()},
        "pixels": {name: int(n) for name, n in zip(MASK_CLASSES, pixels, strict=True)},
        "clips_with": {name: int((counts[:, k].sum(axis=1) > 0).sum()) for k, name in enumerate(MASK_CLASSES)},
        "videos": len(set(videos.tolist())),
    }


def _classes(facts: dict[str, Any]) -> pl.DataFrame:
    rows = [
        {"class": name, "iou": one["value"], "low": one["low"], "high": one["high"]}
        | {"pixels": facts["pixels"].get(name), "clips_with": facts["clips_with"].get(name)}
        for name, one in facts["iou"].items()
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _rows(
    subject: Subject, clips: NDArray[np.int64], *, counts: NDArray[np.int64], logits: NDArray[np.float32]
) -> pl.DataFrame:
    table, iou, probability = subject.table, iou_of(counts), sigmoid(logits)
    columns: dict[str, object] = {
        "clip": [subject.clip_name(i) for i in clips.tolist()],
        "video": table.videos[clips].tolist(),
        "frame": table.frame_numbers[clips],
        "apart": _frames_apart(subject, clips),
    }
    for k, name in enumerate(MASK_CLASSES):
        columns[f"iou_{name}"] = iou[:, k]
    with np.errstate(invalid="ignore"):
        columns["mean_iou"] = np.nanmean(iou, axis=1)
    for k, name in enumerate(CRITERIA):
        columns |= {f"label_{name}": table.majority[clips, k], f"score_{name}": probability[:, k]}
    return pl.DataFrame(columns).fill_nan(None)


def _frames_apart(subject: Subject, clips: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many frames of the clip lie between each labelled frame and the one that has the mask."""
    return np.asarray(np.abs(subject.every_mask.place[clips, 0] - subject.model.labelled_place), dtype=np.int64)


def _masked_frames(subject: Subject, clips: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The frame of each clip that its mask is of, `(clips, h, w, 3)`."""
    place = subject.every_mask.place[clips, 0]
    rows = subject.table.frames[clips, place][:, None]
    return np.ascontiguousarray(subject.store().read(rows)[:, 0].transpose(0, 2, 3, 1))


PART = SegmentationCheck()
