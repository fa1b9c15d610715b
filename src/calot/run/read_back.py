"""The best epoch as its checkpoint was read back: a sample of val scored again, held against what that epoch wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calot.data.clips import ClipTable
from calot.evaluation.passes import Observer
from calot.statistics.optimism import epoch_file
from calot.statistics.predictions import Predictions, load_predictions
from calot.train import checkpoint

if TYPE_CHECKING:
    from calot.run.trainer import Trainer

#: Batches of val, evenly spaced from its first to its last, that are scored again.
BATCHES = 4

Logits = NDArray[np.float32]


def sampled(clips: int, *, batch: int) -> NDArray[np.int64]:
    """The places of the sample among so many clips: whole batches of a pass over all of them, in its order."""
    count = -(-clips // batch)
    chosen = np.unique(np.linspace(0, count - 1, min(BATCHES, count)).round().astype(np.int64))
    return np.concatenate([np.arange(first, min(first + batch, clips)) for first in chosen * batch])


def places(trainer: Trainer) -> NDArray[np.int64]:
    """The sample's places among the clips of val."""
    return sampled(len(trainer.val_set), batch=trainer.passes.batch_size)


def sample_logits(trainer: Trainer, *observers: Observer) -> Logits:
    """Logits `(m, k)` of the sample, from frames, by the model as it stands."""
    return trainer.passes.logits(trainer.model, *observers, clips=places(trainer))


def best_logits(trainer: Trainer) -> Logits | None:
    """Logits `(n, k)` of val by the best epoch, whose weights training left in the model.

    They are those which the epoch wrote, if the sample gives the same bits again, from frames and from the checkpoint
    as it was read back. None where a bit differs (the epoch read cached features, or the device sums in no fixed
    order) and where several processes trained: then all of val is to be scored again.
    """
    if trainer.processes.count > 1:
        return None
    sample, where = trainer.sample if trainer.sample is not None else sample_logits(trainer), places(trainer)
    if len(where) == len(trainer.val_set):
        return sample
    best = checkpoint.load(trainer.checkpoints.best).progress
    table = load_predictions(epoch_file(trainer.request.folder, stage=best["stage"] + 1, epoch=best["best_epoch"] + 1))
    written = table.logits[_rows(table, trainer.val_set.table)]
    return written if np.array_equal(written[where], sample) else None


def _rows(predictions: Predictions, clips: ClipTable) -> NDArray[np.int64]:
    """Where each clip stands in a table of predictions, which is sorted by video and frame."""
    held = {key: row for row, key in enumerate(zip(predictions.videos, predictions.frames, strict=True))}
    return np.array([held[key] for key in zip(clips.videos, clips.frame_numbers, strict=True)])
