"""Jobs run side by side: started where there is room, resumed where they died, waited for where another has them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from calot.errors import CalotError
from calot.locking import locked
from calot.progress import Ui
from calot.run.claiming import LOCK
from calot.run.signals import Stopper
from calot.sweeping.jobs import (
    DIED,
    DONE,
    ELSEWHERE,
    ENDED,
    INVALID,
    REFUSED,
    RUNNING,
    STOPPED,
    WAITING,
    Job,
    JobBook,
    JobRecord,
    val_map,
)

#: How often jobs are looked at, in seconds.
_LOOK_S = 0.1
#: The exit codes of a command: bad input, and stopped by a signal after saving.
_BAD_INPUT, _SAVED = 2, 75


class Started(Protocol):
    """A job at work."""

    @property
    def id(self) -> str:
        """The process's number, or the cluster's name for the job."""

    def ended(self) -> int | None:
        """Its exit code, minus the signal's number where one killed it; None while it is at work."""

    def stop(self) -> None:
        """Ask it to save and end."""


class Runner(Protocol):
    """Where jobs run. `places` has one entry for each that may run at a time: a GPU's name, or nothing."""

    @property
    def places(self) -> Sequence[str | None]: ...

    def start(self, job: Job, *, place: str | None) -> Started:
        """Start a job."""

    def found(self, job: Job, *, id: str) -> Started | None:
        """A job that an earlier command started and that still waits or runs on a cluster."""


@dataclass(kw_only=True)
class Pool:
    """Runs jobs until each has ended.

    `state_of` says DONE or INVALID of a run that needs no process, None of any other. A job that dies is started
    again `retries` times; one that ends with 2 is not. `left` adds to each line what a person waits for.
    """

    runner: Runner
    book: JobBook
    retries: int
    state_of: Callable[[Job], str | None]
    ui: Ui
    stopper: Stopper
    left: Callable[[Sequence[JobRecord]], str] = lambda records: ""
    _working: dict[str, tuple[Started, float]] = field(default_factory=dict)
    _places: list[str | None] = field(default_factory=list)
    _place_of: dict[str, str | None] = field(default_factory=dict)

    def run(self, records: Sequence[JobRecord]) -> None:
        """Run these jobs; raises Stopped once a signal came and every job at work has saved and ended."""
        self._places = list(self.runner.places)
        for record in records:
            if not self._settle(record):
                self._find(record)
        with self.stopper.held():
            try:
                while any(record.state not in ENDED for record in records) and not self.stopper.asked():
                    self._look(records)
                    time.sleep(_LOOK_S)
                self._stop(records)
            finally:
                for started, _ in self._working.values():  # of an error, or of a second signal
                    started.stop()

    def _settle(self, record: JobRecord) -> bool:
        """Whether the run is complete, and nobody works on it; then it is noted, and needs no process."""
        if record.state in ENDED:
            return True
        if lock_is_held(record.job.folder) or (found := self.state_of(record.job)) is None:
            return False
        self._note(record, found, "was complete already")
        return True

    def _find(self, record: JobRecord) -> None:
        """Take over what an earlier command left on a cluster."""
        started = None if record.id is None else self.runner.found(record.job, id=record.id)
        if started is not None:
            self._working[record.job.name] = (started, time.monotonic())
            self._note(record, RUNNING, f"is still with the cluster as job {started.id}")

    def _look(self, records: Sequence[JobRecord]) -> None:
        """Note what has ended, then fill the places that are free."""
        for record in records:
            if record.job.name in self._working:
                self._note_end(record)
        for record in records:
            if not self._places:
                break
            if record.state in (WAITING, ELSEWHERE):
                self._start(record)

    def _start(self, record: JobRecord) -> None:
        job = record.job
        if lock_is_held(job.folder):
            if record.state != ELSEWHERE:
                self._note(record, ELSEWHERE, "another process trains this run (of an earlier sweep?); waiting for it")
            return
        if record.state == ELSEWHERE and self._settle(record):
            return
        place = self._places.pop(0)
        self._place_of[job.name] = place
        started = self.runner.start(job, place=place)
        self._working[job.name] = (started, time.monotonic())
        record.attempts, record.id = record.attempts + 1, started.id
        self._note(record, RUNNING, f"started, output in {job.log}" + (f", GPU {place}" if place else ""))

    def _note_end(self, record: JobRecord, *, stopping: bool = False) -> None:
        """Where the job has ended: its code, its time, and what follows."""
        started, since = self._working[record.job.name]
        code = started.ended()
        if code is None:
            return
        del self._working[record.job.name]
        if record.job.name in self._place_of:
            self._places.append(self._place_of.pop(record.job.name))
        record.code, record.seconds = code, record.seconds + time.monotonic() - since
        elsewhere = lock_is_held(record.job.folder)
        state = None if elsewhere else self.state_of(record.job)
        if state is not None and code in (0, 1, _BAD_INPUT):  # 2: refused, since an orphan was just finishing it
            self._note(record, state, "finished" if state == DONE else "finished, INVALID: see its receipt.json")
        elif stopping:
            self._note(record, STOPPED, f"stopped (exit code {code})")
        elif elsewhere:  # the other one came first, and this one was refused
            self._note(record, WAITING, "another process took this run")
        elif code == _BAD_INPUT:
            self._note(record, REFUSED, f"exit code 2, bad input: {last_line(record.job.log)}")
        elif record.retries < self.retries:
            record.retries += 1
            self._note(record, WAITING, f"{_death(code)}; resumed, {record.retries} of {self.retries} times")
        else:
            self._note(record, DIED, f"{_death(code)}; not resumed again: {last_line(record.job.log)}")

    def _stop(self, records: Sequence[JobRecord]) -> None:
        """Pass a signal on to the jobs at work, and wait until each has saved and ended."""
        for started, _ in self._working.values():
            started.stop()
        while self._working:
            self.stopper.asked()  # ends the reminders: saving takes as long as it takes
            for record in records:
                if record.job.name in self._working:
                    self._note_end(record, stopping=True)
            time.sleep(_LOOK_S)

    def _note(self, record: JobRecord, state: str, text: str) -> None:
        record.state = state
        if state in (DONE, INVALID):
            with contextlib.suppress(CalotError):  # without a positive label in val it has none, and cannot be chosen
                record.map = val_map(record.job.folder)
        self.book.write()
        done = sum(one.state in ENDED for one in self.book.records)
        left = self.left(self.book.records)
        self.ui.say(f"{done} of {len(self.book.records)} done{left}: {record.job.name} {text}")


def lock_is_held(folder: Path) -> bool:
    """Whether another process works on the run in this folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with locked(folder / LOCK, refusal="held"):
            return False
    except CalotError:
        return True


def last_line(log: Path) -> str:
    """The last line of a job's output that says anything, or where it would be."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4000))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), f"nothing in {log}")


def _death(code: int) -> str:
    if code == _SAVED:
        return "stopped by a signal after saving"
    return f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
