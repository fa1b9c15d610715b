"""The jobs of a sweep and what became of each, kept in `jobs.json`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calot.errors import CalotError
from calot.reading import read_record
from calot.statistics.predictions import load_predictions
from calot.statistics.sweep import deciding_map
from calot.writing import write_json

if TYPE_CHECKING:
    from calot.run.request import Request

WAITING, RUNNING, ELSEWHERE, STOPPED = "waiting", "running", "elsewhere", "stopped"
#: The states that end a job: trained; trained with a failed receipt; bad input (exit code 2); no retry left.
DONE, INVALID, REFUSED, DIED = "done", "invalid", "refused", "died"
ENDED = (DONE, INVALID, REFUSED, DIED)

_REMEDY = "remove it: the runs themselves are kept and will be recognised"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run: its name below the sweep's folder, the run's folder, the command that trains or resumes it, its log."""

    name: str
    folder: Path
    command: tuple[str, ...]
    log: Path


def train_job(request: Request, *, words: Sequence[str], flags: Sequence[str], out: Path) -> Job:
    """The run of a request as `calot train` in a process of its own, named by its place below `out`.

    `words` name the experiment and its changes as they were typed.
    """
    name = request.folder.relative_to(out).as_posix()
    where = ("--data", str(request.data), "--seeds", str(request.seed), "--out", str(request.folder))
    return Job(
        name=name,
        folder=request.folder,
        command=(sys.executable, "-m", "calot", "train", *words, *where, *flags, "--resume"),
        log=out / "jobs" / f"{name}.log",
    )


def require_no_launcher(what: str) -> None:
    """Raises CalotError under a launcher of several processes, each of which would start all jobs."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise CalotError(f"WORLD_SIZE is set: {what} starts its own processes; run it without torchrun")


@dataclass(kw_only=True)
class JobRecord:
    """What is known of a job.

    `code` is the last exit code, `attempts` the number of processes started and `seconds` their time, both since the
    sweep's first start; `retries` those of this command after a death. `map` is the val mAP (a share) that decides;
    `id` names the last process, or the cluster's job.
    """

    job: Job
    state: str = WAITING
    code: int | None = None
    attempts: int = 0
    retries: int = 0
    seconds: float = 0.0
    map: float | None = None
    id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        own = {"name": self.job.name, "folder": str(self.job.folder), "log": str(self.job.log)}
        counts = {"attempts": self.attempts, "retries": self.retries, "seconds": round(self.seconds, 1)}
        return own | {"state": self.state, "code": self.code, "map": self.map, "id": self.id} | counts


@dataclass
class JobBook:
    """All jobs of a sweep in the order in which they were asked for, and the file that says so."""

    path: Path
    records: list[JobRecord] = field(default_factory=list)
    before: dict[str, dict[str, Any]] = field(default_factory=dict)
    keeps: bool = False

    @classmethod
    def opened(cls, path: Path, *, keeps: bool = False) -> JobBook:
        """An empty book that knows what an earlier command wrote, and where it `keeps` that, writes it again for jobs
        that are not asked for any more. Raises CalotError for a file that calot did not."""
        if not path.exists():
            return cls(path, keeps=keeps)
        found = read_record(path, remedy=_REMEDY).get("jobs")
        if not isinstance(found, list) or not all(isinstance(one, dict) and "name" in one for one in found):
            raise CalotError(f"{path}: not a list of jobs that calot wrote; {_REMEDY}")
        return cls(path, before={str(one["name"]): one for one in found}, keeps=keeps)

    def add(self, jobs: Iterable[Job]) -> list[JobRecord]:
        """The records of these jobs, new ones made; a job that another trial asked for already is not added again."""
        known = {record.job.name: record for record in self.records}
        found = []
        for job in jobs:
            if job.name not in known:
                known[job.name] = self._record(job)
                self.records.append(known[job.name])
            found.append(known[job.name])
        self.write()
        return found

    def _record(self, job: Job) -> JobRecord:
        old = self.before.get(job.name, {})
        running = old.get("id") if old.get("state") in (RUNNING, ELSEWHERE) else None
        attempts, seconds = old.get("attempts", 0), old.get("seconds", 0.0)
        return JobRecord(job=job, attempts=int(attempts), seconds=float(seconds), id=running, code=old.get("code"))

    def write(self) -> None:
        """Write `jobs.json`, whole or not at all."""
        own = {record.job.name: record.to_dict() for record in self.records}
        write_json(self.path, {"jobs": [*((self.before | own) if self.keeps else own).values()]})


def named(records: Sequence[JobRecord], *, state: str) -> list[JobRecord]:
    """The records in a state."""
    return [record for record in records if record.state == state]


def val_map(folder: Path) -> float:
    """A finished run's val mAP (a share), the number by which settings are chosen. Raises CalotError without one."""
    return deciding_map(load_predictions(folder / "predictions" / "val.parquet").with_labels(), name=str(folder))
