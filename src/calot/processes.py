"""Several processes that train one run, each with a whole copy of the model: what each does, and what they tell others.

An optimiser step belongs to all of them. Each prepares the whole effective batch, as one process would, and takes its
part of the clips; shares of the loss are of the whole batch, so gradients are added up, once per step and after the
last micro-batch. That is DDP without its wrapper, which would average what must be summed, wait for ever for a process
that has no clips in a batch, and know nothing of an adapter that a later stage adds. The copies begin alike, add up
the same numbers in the same order, and so stay alike.

Files are the first process's: the others wait for it (`once`, `in_turn`), for as long as it takes.
"""

from __future__ import annotations

import contextlib
import itertools
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from calot.errors import CalotError, Stopped
from calot.types import Batch

T = TypeVar("T")

#: How often a process that waits looks whether the first one is done, and gradients that are added up at once.
_LOOK_S, _BUCKET = 0.05, 2**24
_END, _STOPPED = "end", "stopped"


@dataclass(frozen=True, eq=False)
class Processes:
    """This process (`rank`, from 0) among `count`; alone, everything here does nothing and costs nothing.

    `store` holds a few words by key, for all; `device` is where numbers are added up.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    store: distributed.Store | None = None
    _turns: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @property
    def first(self) -> bool:
        """Whether this one writes."""
        return self.rank == 0

    @property
    def apart(self) -> tuple[int, ...]:
        """What a seed of draws for this process's own clips gets in addition: nothing in the first."""
        return (self.rank,) if self.rank else ()

    def block(self, count: int) -> range:
        """This process's places among `count`: blocks in the order of ranks, the larger ones first, some empty."""
        size, more = divmod(count, self.count)
        start = self.rank * size + min(self.rank, more)
        return range(start, start + size + (self.rank < more))

    def part(self, batch: Batch) -> Batch | None:
        """This process's clips of an effective batch; None where there are none for it.

        Raises CalotError where another process has prepared another batch: what draws it depends on more than the seed.
        """
        if self.count == 1:
            return batch
        digest = float(zlib.crc32(b"".join(x.cpu().numpy().tobytes() for x in (batch.index, batch.labels))))
        both = torch.tensor([digest, -digest], dtype=torch.float64, device=self.device)
        most, least = self._reduced(both, by=distributed.ReduceOp.MAX).tolist()
        if most != -least:
            raise CalotError(
                "the processes of this run drew different clips or labels for the same step: a sampler or mixing of "
                "your own draws from something else than the generator that it is given"
            )
        mine = self.block(len(batch))
        return batch.of(torch.arange(mine.start, mine.stop, device=batch.video.device)) if mine else None

    def require_divisible(self, model: nn.Module) -> None:
        """Raises CalotError for a model whose answer for a clip depends on the other clips of its batch."""
        found = [name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        if self.count > 1 and found:
            raise CalotError(
                f"{found[0]}: batch normalisation takes its statistics from the clips of one process, so that "
                f"{self.count} processes would train another model. Use groups (Segmentation.groups=8), or one process."
            )

    # Numbers

    def add_up_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give each parameter the sum of its gradients in all processes; one that has none anywhere keeps none."""
        if self.count == 1 or not parameters:
            return
        has = [float(p.grad is not None) for p in parameters]
        has = self._reduced(torch.tensor(has, device=self.device)).tolist()
        for bucket in _buckets([p for p, number in zip(parameters, has, strict=True) if number]):
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            total = self._reduced(torch.cat([g.flatten() for g in grads]))
            for p, summed in zip(bucket, torch.split(total, [p.numel() for p in bucket]), strict=True):
                p.grad = summed.view_as(p)

    def add_up(self, values: Mapping[str, float], *, names: Collection[str]) -> dict[str, float]:
        """The sum over all processes of each named value that any of them has."""
        if self.count == 1:
            return dict(values)
        rows = [[values.get(name, 0.0), float(name in values)] for name in names]
        total = self._reduced(torch.tensor(rows, dtype=torch.float64, device=self.device)).tolist()
        return {name: value for name, (value, there) in zip(names, total, strict=True) if there}

    def any(self, flag: bool) -> bool:
        """Whether it is so in any of them."""
        return flag if self.count == 1 else bool(self._reduced(torch.tensor([float(flag)], device=self.device)))

    def gather(self, values: list[T]) -> list[T]:
        """The values of all, in the order of ranks."""
        if self.count == 1:
            return values
        each: list[list[T]] = [[] for _ in range(self.count)]
        with self._heard():
            distributed.all_gather_object(each, values)
        return [value for one in each for value in one]

    def _reduced(self, values: Tensor, *, by: distributed.ReduceOp.RedOpType = distributed.ReduceOp.SUM) -> Tensor:
        with self._heard():
            distributed.all_reduce(values, by)
        return values

    # Turns

    def once(self, work: Callable[[], T]) -> T | None:
        """Have the first process do it, while the others wait; they get None."""
        turn = f"turn {next(self._turns)}"
        if self.first:
            done = work()
            self._tell(turn, "done")
            return done
        self._wait(turn)
        return None

    def in_turn(self, work: Callable[[], T]) -> T:
        """Have the first process do it, then all others: what it leaves in a cache is there for them."""
        done: list[T] = []
        self.once(lambda: done.append(work()))
        return done[0] if done else work()

    def wait(self) -> None:
        """Wait until the first process has come here."""
        self.once(lambda: None)

    def agreed(self, value: str) -> str:
        """The first process's value."""
        turn = f"turn {next(self._turns)}"
        if self.first:
            self._tell(turn, value)
            return value
        self._wait(turn)
        assert self.store is not None
        said: bytes = self.store.get(turn)
        return said.decode()

    def _tell(self, key: str, value: str) -> None:
        if self.store is not None:
            with self._heard():
                self.store.set(key, value)

    def _wait(self, key: str) -> None:
        assert self.store is not None
        with self._heard():
            while not self.store.check([key]):
                if self.store.check([_END]):
                    raise self._lost()
                time.sleep(_LOOK_S)

    # The end

    @contextmanager
    def ending_together(self) -> Iterator[None]:
        """Within it, whoever fails or is stopped first says so, and the others end in the same way, naming it."""
        try:
            yield
        except (Exception, Stopped) as error:
            rank, kind = self._ended(_STOPPED if isinstance(error, Stopped) else "failed")
            if rank == self.rank:
                raise
            said = f"process {self.rank} ended because process {rank} {kind}; that one's message says why"
            raise (Stopped if kind == _STOPPED else CalotError)(said) from error

    def _ended(self, kind: str) -> tuple[int, str]:
        """Which process ended first, and how; this one, in the way given, where none did before."""
        if self.store is None:
            return self.rank, kind
        try:
            said = self.store.compare_set(_END, "", f"{self.rank} {kind}").decode().split()
        except RuntimeError:  # who keeps the store is gone
            return self.rank, kind
        return int(said[0]), said[1]

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Turn a broken connection to the others into the end that it means."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise self._lost() from error

    def _lost(self) -> BaseException:
        """What to raise where another process is gone: a stop, which is saved where it can be, or a failure."""
        if self.store is not None:
            with contextlib.suppress(RuntimeError):
                if self.store.check([_END]) and self.store.get(_END).decode().endswith(_STOPPED):
                    return Stopped()
        return CalotError(
            "another process of this run ended, or does not answer; if it said nothing, it was killed. Run the same "
            "again with --resume (--debug shows what the connection says)."
        )

    def leave(self) -> None:
        """Part from the others, once all are done."""
        if self.count > 1:
            self.any(False)
            distributed.destroy_process_group()


#: A process by itself.
ALONE = Processes()


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """The parameters in groups of one kind, of some size."""
    kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    for p in parameters:
        kinds.setdefault((p.dtype, p.device), []).append(p)
    for alike in kinds.values():
        ends = itertools.accumulate(p.numel() for p in alike)
        for _, some in itertools.groupby(zip(ends, alike, strict=True), key=lambda pair: pair[0] // _BUCKET):
            yield [p for _, p in some]
