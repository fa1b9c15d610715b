"""Jobs as processes of this machine, several at a time, each with a GPU of its own where GPUs are named."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from calot.run.signals import SWEEP
from calot.sweeping.jobs import Job
from calot.writing import clear_disk_errors


@dataclass(frozen=True)
class StartedProcess:
    """A job's process."""

    process: subprocess.Popen[bytes]

    @property
    def id(self) -> str:
        """The process's number."""
        return str(self.process.pid)

    def ended(self) -> int | None:
        """Its exit code, or None while it is at work."""
        return self.process.poll()

    def stop(self) -> None:
        """Ask it to save and end; one that has ended hears nothing."""
        self.process.send_signal(signal.SIGTERM)


@dataclass(frozen=True)
class LocalRunner:
    """As many processes at a time as there are places; a place that has a name is a GPU."""

    places: Sequence[str | None]

    def start(self, job: Job, *, place: str | None) -> StartedProcess:
        """Start the job's command; it sees the place's GPU alone, as GPU 0."""
        return start_process(job, gpu=place)

    def found(self, job: Job, *, id: str) -> None:
        """Nothing: a process that outlived an earlier sweep holds its run's lock, and is waited for there."""


def start_process(job: Job, *, gpu: str | None = None) -> StartedProcess:
    """Start a job's command with its output appended to its log. A terminal's Ctrl-C does not reach it directly.

    Raises CalotError where the log cannot be written.
    """
    own = {SWEEP: "1"} if gpu is None else {SWEEP: "1", "CUDA_VISIBLE_DEVICES": gpu}
    with clear_disk_errors(job.log):
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {subprocess.list2cmdline(job.command)}\n".encode())
            log.flush()
            return StartedProcess(
                subprocess.Popen(
                    job.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | own,
                    start_new_session=True,
                )
            )
