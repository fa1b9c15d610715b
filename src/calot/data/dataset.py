"""From clips to batches: a torch data set that is asked for one whole batch at a time, and the loader around it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from calot.data.clips import ClipTable
from calot.data.masks import ClipMasks
from calot.data.store import FrameStore
from calot.errors import CalotError
from calot.types import Batch


@dataclass(frozen=True)
class EpochIndices:
    """One batch asked for: which clips, in which epoch, and the first one's place in the epoch's order."""

    epoch: int
    indices: tuple[int, ...]
    start: int = 0


@dataclass(frozen=True, eq=False)
class ClipDataset(Dataset[Batch]):
    """Clips as the store holds them; `preparation.Preparation` augments them where they are trained on."""

    table: ClipTable
    store: FrameStore
    masks: ClipMasks | None = None

    def __post_init__(self) -> None:
        last = int(self.table.frames.max(initial=-1))
        if self.table.split != self.store.split or last >= len(self.store):
            raise CalotError(
                f"ClipDataset: clips of split {self.table.split} reach to row {last}; {self.store.path} holds "
                f"{len(self.store)} frames of split {self.store.split}. Open the store of the clips' own manifest."
            )

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, request: EpochIndices) -> Batch:
        index = np.asarray(request.indices, dtype=np.int64)
        return Batch(
            video=torch.from_numpy(self.store.read(self.table.frames[index])),
            labels=torch.from_numpy(self.table.labels[index]),
            soft=torch.from_numpy(self.table.soft[index]),
            index=torch.from_numpy(index),
            masks=None if self.masks is None else self.masks.read(index),
        )


@dataclass(frozen=True)
class _Requests(Sequence[EpochIndices]):
    """An epoch's order, cut into batches; the last one is as long as what is left."""

    order: NDArray[np.int64] = field(repr=False)
    epoch: int
    batch_size: int
    first: int = 0

    def __len__(self) -> int:
        return max(0, -(-len(self.order) // self.batch_size) - self.first)

    def __getitem__(self, place: int) -> EpochIndices:  # type: ignore[override]
        if not 0 <= place < len(self):
            raise IndexError(place)
        start = (self.first + place) * self.batch_size
        indices = tuple(self.order[start : start + self.batch_size].tolist())
        return EpochIndices(epoch=self.epoch, indices=indices, start=start)


_START_METHOD = "fork" if sys.platform.startswith("linux") else None


def batches(
    dataset: ClipDataset,
    *,
    order: NDArray[np.int64],
    epoch: int,
    batch_size: int,
    first: int = 0,
    workers: int = 0,
    pin: bool = False,
    start_method: str | None = None,
) -> Iterator[Batch]:
    """Yield an epoch's batches in order, the last partial one included: the same for any number of workers.

    `first` batches are passed over, as a resumed epoch needs, without changing the others. `start_method` is how
    workers start (`spawn`, `fork`); None is fork on Linux, else the platform's own. Under `forkserver`, the default of
    Python 3.14, workers outlive a run that is killed: they watch their parent, which is then the server.
    """
    if batch_size < 1:
        raise CalotError(f"batch_size={batch_size} must be at least 1.")
    yield from DataLoader(
        dataset,
        batch_size=None,
        sampler=_Requests(order=order, epoch=epoch, batch_size=batch_size, first=first),
        num_workers=workers,
        pin_memory=pin and torch.cuda.is_available(),
        worker_init_fn=_begin_worker,
        multiprocessing_context=(start_method or _START_METHOD) if workers else None,
    )


def _begin_worker(worker: int) -> None:
    """Workers copy: more threads than one each would only take the cores from one another. Signals sent to
    the whole group are for the parent, which finishes its step with them and then ends them."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
