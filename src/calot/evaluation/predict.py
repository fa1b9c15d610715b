"""A pass in evaluation mode: logits of every clip of a table, in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
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
from calot.data.dataset import ClipDataset, batches, uploaded
from calot.errors import CalotError
from calot.out_of_memory import ClipsAtATime, while_scoring
from calot.processes import ALONE, Processes
from calot.statistics.predictions import Predictions
from calot.types import Batch, Outputs


@dataclass(frozen=True)
class Scores:
    """Raw logits `(n, k)` float32 of the clips asked for, in their order."""

    logits: np.ndarray


class PassObserver(ABC):
    """What looks on while clips are scored, also where several processes share them: `read` is called where a batch was
    scored, `take` in every process with what was read of each batch, in the order of the batches."""

    @abstractmethod
    def read(self, outputs: Outputs, batch: Batch) -> Any:
        """What it needs of one batch: small, and nothing that lies on a device."""

    @abstractmethod
    def take(self, found: Any) -> None:
        """Add what was read of one batch."""

    def __call__(self, outputs: Outputs, batch: Batch) -> None:
        self.take(self.read(outputs, batch))


@torch.inference_mode()
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
    processes: Processes = ALONE,
    at_a_time: ClipsAtATime | None = None,
) -> Scores:
    """Score clips in evaluation mode (all of them, or those at `indices`); the model's mode is put back afterwards.

    Where memory runs out a batch is scored in parts, of which `at_a_time` tells and keeps the size.
    Every observer sees each batch's outputs and the batch, on the device. Several processes share whole batches, the
    same that one alone would make, so that each clip's logits are the same to the bit.
    Raises CalotError naming the clip when a logit is not finite.
    """
    order = np.arange(len(dataset)) if indices is None else np.asarray(indices)
    if processes.count > 1 and (other := [o for o in observers if not isinstance(o, PassObserver)]):
        raise CalotError(f"{other[0]!r} would see one process's clips alone: make it a calot PassObserver")
    mine = processes.block(-(-len(order) // batch_size))
    order = order[mine.start * batch_size : mine.stop * batch_size]
    was_training = model.training
    model.eval()
    scored: list[tuple[np.ndarray, list[Any]]] = []
    gpu = accelerator.device.type == "cuda"
    loaded = batches(dataset, order=order, epoch=0, batch_size=batch_size, workers=workers, pin=gpu)
    at_a_time = at_a_time or while_scoring()

    def compute(part: Batch) -> Outputs:
        with accelerator.autocast():
            found: Outputs = model(part)
        return found

    for batch, on_device in uploaded(loaded, device=accelerator.device):
        for outputs, part in at_a_time.parts(on_device, compute=compute, where=f"scoring {dataset.table.split}"):
            _require_finite(outputs, dataset=dataset, batch=part)
            logits, found = outputs.logits.float().cpu().numpy(), []
            for observe in observers:
                if processes.count > 1 and isinstance(observe, PassObserver):
                    found.append(observe.read(outputs, part))
                else:
                    observe(outputs, part)
            scored.append((logits, found))
        if on_batch:
            on_batch(len(batch))
    model.train(was_training)
    scored = processes.gather(scored)
    for _, found in scored:
        for observe, value in zip(observers if found else (), found, strict=True):
            if isinstance(observe, PassObserver):
                observe.take(value)
    return Scores(logits=np.concatenate([logits for logits, _ in scored]))


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
        clip = dataset.table.clip(int(batch.index[bad.to(batch.index.device)][0]))
        raise CalotError(
            f"non-finite logits for {int(bad.sum())} clips, first video {clip.video} frame {clip.frame}: "
            "the weights have diverged; lower train.lr or train.clip_norm, or use compute.precision=fp32"
        )
