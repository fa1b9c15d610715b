"""Jobs in processes that stay: each takes one `calot` command after the other, so that imports are paid once."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from calot.run.signals import SWEEP
from calot.sweeping.jobs import Job
from calot.writing import clear_disk_errors

#: The module that serves: it reads orders from its standard input and answers each with its exit code.
SERVER = "calot.cli.worker"
#: Words before a job's own command line that start `calot`; a worker has calot already.
PREFIX = (sys.executable, "-m", "calot")
#: The exit code of a command, and of its worker, that a signal stopped after saving.
_SAVED = 75


@dataclass(eq=False)
class _Worker:
    """A process that takes orders, and the exit codes that it has answered with."""

    process: subprocess.Popen[str]
    answers: queue.Queue[int] = field(default_factory=queue.Queue)

    @classmethod
    def started(cls, *, gpu: str | None, env: Mapping[str, str]) -> _Worker:
        """A new one; a terminal's Ctrl-C does not reach it directly. Its own complaints go where ours go."""
        own = {SWEEP: "1"} if gpu is None else {SWEEP: "1", "CUDA_VISIBLE_DEVICES": gpu}
        process = subprocess.Popen(
            [sys.executable, "-m", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | dict(env) | own,
            start_new_session=True,
        )
        worker = cls(process)
        threading.Thread(target=worker._listen, name="calot worker", daemon=True).start()
        return worker

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(int(line))

    def order(self, job: Job) -> None:
        """Hand it a job; where it is dead already, the job ends as it did."""
        assert self.process.stdin is not None
        words = list(job.command[len(PREFIX) :])
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps({"words": words, "log": str(job.log)}) + "\n")
            self.process.stdin.flush()

    def dismiss(self) -> None:
        """Nothing more will be ordered: it ends, after the job that it has."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()


@dataclass(frozen=True, eq=False)
class OrderedJob:
    """A job with a worker."""

    worker: _Worker
    idle: list[_Worker]  # where the worker waits for its next job

    @property
    def id(self) -> str:
        """The worker's process number."""
        return str(self.worker.process.pid)

    def ended(self) -> int | None:
        """Its exit code, or that of its worker where it took the worker with it; None while it is at work."""
        dead = self.worker.process.poll()
        try:  # after the look at the process: its last answer may have come just before its end
            code = self.worker.answers.get(timeout=0.5) if dead is not None else self.worker.answers.get_nowait()
        except queue.Empty:
            return dead
        if dead is None and code != _SAVED:  # after that it ends
            self.idle.append(self.worker)
        return code

    def stop(self) -> None:
        """Ask it to save and end."""
        self.worker.process.send_signal(signal.SIGTERM)


@dataclass(frozen=True)
class StayingRunner:
    """As many workers as there are places; a place that has a name is a GPU. Used as a context: workers end with it."""

    places: Sequence[str | None]
    env: Mapping[str, str] = field(default_factory=dict)
    _idle: dict[str | None, list[_Worker]] = field(default_factory=dict, repr=False)

    def start(self, job: Job, *, place: str | None) -> OrderedJob:
        """Order the job from a worker of this place: one that waits, or a new one.

        Raises CalotError where the job's log cannot be written.
        """
        with clear_disk_errors(job.log):
            job.log.parent.mkdir(parents=True, exist_ok=True)
            job.log.open("ab").close()
        idle = self._idle.setdefault(place, [])
        alive = [worker for worker in idle if worker.process.poll() is None]
        worker = alive.pop() if alive else _Worker.started(gpu=place, env=self.env)
        idle[:] = alive
        worker.order(job)
        return OrderedJob(worker, idle)

    def found(self, job: Job, *, id: str) -> None:
        """Nothing: a worker that outlived an earlier command holds its run's lock, and is waited for there."""

    def __enter__(self) -> StayingRunner:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in (one for waiting in self._idle.values() for one in waiting):
            worker.dismiss()
            worker.process.wait()
