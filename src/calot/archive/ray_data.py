"""Ray Data: the same map over the machines of a Ray cluster, or over processes of this one.

All machines must see the run, the data and the archive's folder under the same paths.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from calot.archive.engines import Engine
from calot.archive.operations import Attempt, AttemptState, Operation, ScoringJob, attempt
from calot.errors import CalotError


@dataclass(frozen=True)
class RayData(Engine):
    """`workers` Ray actors, each with the model loaded once. With RAY_ADDRESS set they run in that cluster."""

    workers: int = 2

    def attempts(self, job: ScoringJob, operations: Sequence[Operation]) -> Iterator[Attempt]:
        ray = _imported()
        job.folder.mkdir(parents=True, exist_ok=True)
        with _started(ray, workers=self.workers):
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            items = ray.data.from_items(
                [{"place": place} for place in range(len(operations))], override_num_blocks=len(operations)
            )
            rows = items.map(
                _Actor,
                fn_constructor_args=(job, tuple(operations)),
                compute=ray.data.ActorPoolStrategy(size=min(self.workers, len(operations))),
                num_cpus=1,
                num_gpus=self._gpus(ray),
            )
            for row in rows.iter_rows():
                yield Attempt(operations[row["place"]], AttemptState(row["state"]), why=row["why"])

    def _gpus(self, ray: Any) -> float:
        """Each actor's share of the GPUs that Ray has: one without a share sees none."""
        return min(1.0, float(ray.cluster_resources().get("GPU", 0)) / self.workers)


class _Actor:
    """In a Ray worker: the job opened once, called with one row per operation."""

    def __init__(self, job: ScoringJob, operations: tuple[Operation, ...]) -> None:
        self.job, self.operations, self.score = job, operations, job.scorer.open()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        done = attempt(self.operations[int(row["place"])], folder=self.job.folder, score=self.score)
        return {"place": int(row["place"]), "state": done.state.value, "why": done.why}


def _imported() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported to anybody
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise CalotError(
            f"--engine ray needs Ray Data, which is not installed here ({error}): pip install 'calot[archive]'"
        ) from None
    return ray


@contextmanager
def _started(ray: Any, *, workers: int) -> Iterator[None]:
    """Within it, Ray runs. It puts its own handler in the place of ours for SIGTERM, which is put back."""
    own = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers + 1}
    ours = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if ours else None
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", configure_logging=True, **own)
        if before is not None:
            signal.signal(signal.SIGTERM, before)
        yield
    finally:
        ray.shutdown()
