"""From clips to batches: a data set that is asked for one whole batch at a time, and what reads ahead of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from calot.data.clips import ClipTable
from calot.data.masks import ClipMasks
from calot.data.store import FrameStore
from calot.errors import CalotError
from calot.types import Batch


@dataclass(frozen=True)
class EpochIndices:
    """One batch asked for: which clips, in which epoch, and the first one's place in the epoch's order.

    Without `frames` only what stands beside them comes.
    """

    epoch: int
    indices: tuple[int, ...]
    start: int = 0
    frames: bool = True


@dataclass(frozen=True, eq=False)
class ClipDataset:
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
        rows = self.table.frames[index]
        return Batch(
            video=torch.from_numpy(self.store.read(rows if request.frames else rows[:, :0])),
            labels=torch.from_numpy(self.table.labels[index]),
            soft=torch.from_numpy(self.table.soft[index]),
            index=torch.from_numpy(index),
            masks=None if self.masks is None else self.masks.read(index),
        )


def batches(
    dataset: ClipDataset,
    *,
    order: NDArray[np.int64],
    epoch: int,
    batch_size: int,
    first: int = 0,
    workers: int = 0,
    pin: bool = False,
    frames: Callable[[int], bool] = lambda number: True,
) -> Iterator[Batch]:
    """Yield an epoch's batches in order, the last partial one included: the same for any number of workers.

    `first` batches are passed over, as a resumed epoch needs, without changing the others. `workers` are threads that
    read ahead: copying from a store leaves Python's lock, and threads need neither shared memory nor a second copy of
    the process, and none outlives it. `frames` says of which batches, by number, they are read.
    """
    if batch_size < 1:
        raise CalotError(f"batch_size={batch_size} must be at least 1.")
    starts = range(first * batch_size, len(order), batch_size)

    def load(start: int) -> Batch:
        indices = tuple(order[start : start + batch_size].tolist())
        seen = frames(start // batch_size)
        batch = dataset[EpochIndices(epoch=epoch, indices=indices, start=start, frames=seen)]
        return batch.pin_memory() if pin and torch.cuda.is_available() else batch

    return map(load, starts) if workers == 0 else _ahead(load, starts, workers=workers)


def uploaded(loaded: Iterator[Batch], *, device: torch.device) -> Iterator[tuple[Batch, Batch]]:
    """Each batch, and the same on the device. To a GPU the next one is copied while the one before is computed on."""
    if device.type != "cuda":
        yield from ((batch, batch.to(device)) for batch in loaded)
        return
    beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def upload() -> tuple[Batch, Batch, torch.cuda.Event] | None:
        batch = next(loaded, None)
        if batch is None:
            return None
        with torch.cuda.stream(beside):
            return batch, batch.to(device), beside.record_event()

    coming = upload()
    while coming is not None:
        batch, on_device, copied = coming
        using = torch.cuda.current_stream(device)
        using.wait_event(copied)
        on_device.used_by(using)
        coming = upload()
        yield batch, on_device


def _ahead(load: Callable[[int], Batch], starts: Iterable[int], *, workers: int) -> Iterator[Batch]:
    """The same in order, with as many batches under way as there are workers, and one waiting."""
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="calot loader") as pool:
        try:
            for start in starts:
                waiting.append(pool.submit(load, start))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for batch in waiting:
                batch.cancel()
