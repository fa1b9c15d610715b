"""Jobs handed to a cluster by submitit: Slurm, or its stand-in `local`, which runs them here in the same way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calot.errors import CalotError, first_line
from calot.sweeping.jobs import Job
from calot.sweeping.local import StartedProcess, start_process
from calot.sweeping.packages import required

#: The code of a job that ended without leaving one: its node died, its time was up, or it was killed.
_VANISHED = -int(getattr(signal, "SIGKILL", 9))
#: Slurm's words for a job that waits or works.
_ALIVE = ("READY", "PENDING", "RUNNING", "REQUEUED", "COMPLETING", "PREEMPTED")


class ClusterTask:
    """What runs on the cluster: the job's command as a process of its own, whose exit code is the result."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._started: StartedProcess | None = None

    def __call__(self) -> int:
        """Run the command to its end, passing SIGTERM on."""
        self._started = started = start_process(self.job)
        signal.signal(signal.SIGTERM, lambda number, frame: started.stop())
        while (code := started.ended()) is None:
            time.sleep(0.1)
        return code

    def checkpoint(self) -> Any:
        """Called by submitit when the cluster takes the node back or time is up: save, then wait in the queue again."""
        if self._started is not None and self._started.ended() is None:
            self._started.stop()
            os.waitid(os.P_PID, self._started.process.pid, os.WEXITED | os.WNOWAIT)
        return required("submitit").helpers.DelayedSubmission(ClusterTask(self.job))


@dataclass(frozen=True)
class ClusterJob:
    """A job with submitit."""

    submitted: Any
    cluster: str

    @property
    def id(self) -> str:
        """The cluster's name for it."""
        return str(self.submitted.job_id)

    def ended(self) -> int | None:
        """Its exit code; None while it waits or works; as if killed where it left none."""
        if not self.submitted.done():
            return None
        try:
            return int(self.submitted.result())
        except Exception:  # submitit's errors: no result, or one of its own processes failed
            return _VANISHED

    def stop(self) -> None:
        """Ask it to save and end: a job of Slurm that waits is withdrawn."""
        if self.cluster == "local":  # its own cancel() kills after a second
            self.submitted._process.send_signal(signal.SIGTERM)
        else:
            self.submitted.cancel(check=False)


@dataclass(frozen=True)
class ClusterRunner:
    """Hands jobs to submitit's executor, as many at a time as there are places."""

    executor: Any
    cluster: str
    places: Sequence[None]

    @classmethod
    def of(
        cls,
        cluster: str,
        *,
        folder: Path,
        at_once: int,
        hours: float,
        partition: str | None = None,
        gpus: int = 0,
        cpus: int | None = None,
        memory_gb: float | None = None,
    ) -> ClusterRunner:
        """Jobs of `hours` each with `gpus` GPUs; submitit keeps its files in `folder`.

        Raises CalotError where submitit is missing or does not find the cluster.
        """
        submitit = required("submitit")
        try:
            executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        except RuntimeError as error:
            raise CalotError(f"--cluster {cluster}: {first_line(error)} Start this where sbatch works.") from None
        executor.update_parameters(
            name="calot",
            timeout_min=max(1, round(60 * hours)),
            gpus_per_node=gpus,
            cpus_per_task=cpus,
            mem_gb=memory_gb,
            slurm_partition=partition,
        )
        return cls(executor, cluster, (None,) * at_once)

    def start(self, job: Job, *, place: str | None) -> ClusterJob:
        """Submit a job."""
        return ClusterJob(self.executor.submit(ClusterTask(job)), self.cluster)

    def found(self, job: Job, *, id: str) -> ClusterJob | None:
        """A job of an earlier sweep that Slurm still has; submitit's `local` jobs hold their runs' locks instead."""
        if self.cluster == "local":
            return None
        submitted = self.executor._executor.job_class(self.executor.folder, id, [0])
        return ClusterJob(submitted, self.cluster) if submitted.get_info().get("State") in _ALIVE else None
