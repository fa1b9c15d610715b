"""Worker processes on this machine: spawned, each given one operation at a time, replaced where one is killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from calot.archive.engines import Engine
from calot.archive.operations import Attempt, AttemptState, Operation, ScoringJob, attempt, reason_of
from calot.errors import CalotError

#: An operation whose worker dies so often has failed: it may need more memory than there is.
_DEATHS = 3
#: So many workers may die in a row before one is ready.
_STILLBORN = 10
_READY = "ready"


@dataclass(frozen=True)
class LocalProcesses(Engine):
    """`workers` processes beside this one. The same command in another terminal, or on another machine that shares the
    disk, joins in: each operation is claimed by a lock, which the system frees when its process dies."""

    workers: int = 2

    def attempts(self, job: ScoringJob, operations: Sequence[Operation]) -> Iterator[Attempt]:
        pool = _Pool(job=job, waiting=deque(operations))
        try:
            while pool.left():
                pool.fill(self.workers)
                yield from pool.heard()
        finally:
            pool.end()


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    operation: Operation | None = None


@dataclass
class _Pool:
    """The workers alive, what waits for one, and how often an operation's worker died."""

    job: ScoringJob
    waiting: deque[Operation]
    workers: list[_Worker] = field(default_factory=list)
    deaths: Counter[Operation] = field(default_factory=Counter)
    stillborn: int = 0

    def left(self) -> bool:
        return bool(self.waiting) or any(worker.operation for worker in self.workers)

    def fill(self, count: int) -> None:
        """Give idle workers what waits again after a death; then start workers until there are `count`, or as many as
        operations that are left."""
        for worker in self.workers:
            if worker.ready and worker.operation is None:
                self._give(worker)
        under_way = sum(worker.operation is not None for worker in self.workers)
        while len(self.workers) < min(count, under_way + len(self.waiting)):
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.get_context("spawn").Process(
                target=_work, args=(self.job, theirs), name="calot archive worker", daemon=True
            )
            process.start()
            theirs.close()
            self.workers.append(_Worker(process, ours))

    def heard(self) -> Iterator[Attempt]:
        """What workers said, waiting a moment for it; a dead one's operation waits again, or has failed."""
        ready = wait([worker.pipe for worker in self.workers], timeout=0.2)
        for worker in [worker for worker in self.workers if worker.pipe in ready]:
            try:
                said = worker.pipe.recv()
            except (EOFError, OSError):
                yield from self._lost(worker)
                continue
            if isinstance(said, Attempt):
                worker.operation = None
                yield said
            elif said == _READY:
                worker.ready, self.stillborn = True, 0
            else:
                raise CalotError(str(said))
            self._give(worker)

    def _give(self, worker: _Worker) -> None:
        if not self.waiting:
            return
        with contextlib.suppress(OSError):  # just killed: its pipe says so next
            worker.pipe.send(self.waiting[0])
            worker.operation = self.waiting.popleft()

    def _lost(self, worker: _Worker) -> Iterator[Attempt]:
        worker.process.join()
        self.workers.remove(worker)
        operation, code = worker.operation, worker.process.exitcode
        if not worker.ready:
            self.stillborn += 1
        if self.stillborn >= _STILLBORN:
            raise CalotError(
                f"{self.stillborn} worker processes ended before their first operation (the last with exit code "
                f"{code}). Lower --workers, or use --engine inline, which shows why."
            )
        if operation is None:
            return
        self.deaths[operation] += 1
        if self.deaths[operation] < _DEATHS:
            self.waiting.append(operation)
            return
        why = (
            f"its worker process died {_DEATHS} times (the last with exit code {code}), most likely for lack of memory"
        )
        yield Attempt(operation, AttemptState.failed, why=f"{why}; lower --workers")

    def end(self) -> None:
        """End every worker; an operation that is being scored is scored again by the next start."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.pipe.close()


def _work(job: ScoringJob, pipe: Connection) -> None:
    """In a worker: open the job once, then score what the pipe brings until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        try:
            score = job.scorer.open()
            pipe.send(_READY)
            while True:
                pipe.send(attempt(pipe.recv(), folder=job.folder, score=score))
        except (EOFError, BrokenPipeError):
            return
        except Exception as error:
            pipe.send(reason_of(error))
    except OSError:
        return


def _end_with_parent() -> None:
    """A killed parent's workers end at once: its next start has workers of its own."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
