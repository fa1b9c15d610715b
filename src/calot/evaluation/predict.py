"""A pass in evaluation mode: logits of every clip of a table, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from accelerate import Accelerator
from torch import nn

from calot.criteria import CRITERIA
from calot.data.clips import ClipTable
from calot.data.dataset import ClipDataset, batches
from calot.errors import CalotError
from calot.statistics.predictions import Predictions
from calot.types import Batch, Outputs


@dataclass(frozen=True)
class Scores:
    """Raw logits `(n, k)` float32 of the clips asked for, in their order."""

    logits: np.ndarray


@torch.no_grad()
def score(
    model: nn.Module,
    *,
    dataset: ClipDataset,
    accelerator: Accelerator,
    batch_size: int,
    workers: int = 0,
    indices: np.ndarray | None = None,
    observers: Sequence[Callable[[Outputs, Batch], None]] = (),
    on_batch: Callable[[int], None] | None = None,
) -> Scores:
    """Score clips in evaluation mode (all of them, or those at `indices`); the model's mode is put back afterwards.

    Every observer sees each batch's outputs and the batch, on the device.
    Raises CalotError naming the clip when a logit is not finite.
    """
    order = np.arange(len(dataset)) if indices is None else np.asarray(indices)
    was_training = model.training
    model.eval()
    logits = []
    for batch in batches(dataset, order=order, epoch=0, batch_size=batch_size, workers=workers):
        on_device = batch.to(accelerator.device)
        with accelerator.autocast():
            outputs = model(on_device)
        _require_finite(outputs, dataset=dataset, batch=batch)
        logits.append(outputs.logits.float().cpu().numpy())
        for observe in observers:
            observe(outputs, on_device)
        if on_batch:
            on_batch(len(batch))
    model.train(was_training)
    return Scores(logits=np.concatenate(logits))


def predictions_table(
    logits: np.ndarray, *, table: ClipTable, seed: int, fingerprint: str, manifest_hash: str
) -> Predictions:
    """Logits `(n, k)` of a table's clips as checked predictions, with the majority and the rater mean beside them."""
    columns: dict[str, Any] = {
        "dataset": table.dataset,
        "split": table.split,
        "protocol": table.protocol,
        "video": table.videos.tolist(),
        "frame": table.frame_numbers,
        "seed": seed,
    }
    for k, criterion in enumerate(CRITERIA):
        columns[f"logit_{criterion}"] = logits[:, k]
        columns[f"label_{criterion}"] = np.where(table.majority[:, k] < 0, np.nan, table.majority[:, k])
        columns[f"soft_{criterion}"] = table.soft[:, k]
    return Predictions(
        frame=pl.DataFrame(columns),
        fingerprint=fingerprint,
        manifest_hash=manifest_hash,
        frames_per_second=table.frames_per_second,
    )


def _require_finite(outputs: Outputs, *, dataset: ClipDataset, batch: Batch) -> None:
    bad = ~torch.isfinite(outputs.logits).all(dim=1).cpu()
    if bad.any():
        clip = dataset.table.clip(int(batch.index[bad][0]))
        raise CalotError(
            f"non-finite logits for {int(bad.sum())} clips, first video {clip.video} frame {clip.frame}: "
            "the weights have diverged; lower train.lr or train.clip_norm, or use compute.precision=fp32"
        )
