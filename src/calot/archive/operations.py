"""The unit of an archive's work, where its result lies, and one attempt at it: claimed, scored, written, recorded.

An operation is finished once its record stands beside its table. The table is put in place first, so a kill in between
leaves an operation that is scored again, never a record of something that is not there.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from calot.data.digests import read_checked, with_digest
from calot.errors import CalotError, first_line
from calot.locking import locked
from calot.machine_errors import machine_message
from calot.writing import clear_disk_errors, write_text

#: Longer ids are cut and told apart by a digest: file systems take names of 255 bytes.
_LONGEST_NAME = 120


@dataclass(frozen=True)
class Operation:
    """One video of one data set; `root` is the archive's own name of that set, so equal ids never meet."""

    root: str
    video: str

    def __str__(self) -> str:
        return f"{self.root}, video {self.video}"


class Writable(Protocol):
    """What can be written to a file, whole or not at all."""

    def write(self, path: Path) -> Path: ...


@dataclass(frozen=True)
class OperationResult:
    """An operation's table, its number of rows, and what its record says beside them (JSON)."""

    table: Writable
    rows: int
    facts: Mapping[str, Any] = field(default_factory=dict)


Score = Callable[[Operation], OperationResult]


class DamagedResult(CalotError):
    """A finished operation's files are not what was written: it is scored again."""


class Scorer(ABC):
    """The `fn` of `map(fn, operations)`: pickled to each worker, and opened there once."""

    @abstractmethod
    def open(self) -> Score:
        """Load what every operation needs. What it returns raises CalotError for an operation that cannot be scored."""

    @abstractmethod
    def require(self, operation: Operation, *, table: Path, record: Mapping[str, Any]) -> None:
        """Check a finished operation of an earlier start. Raises DamagedResult where it must be scored again,
        CalotError where the archive must not continue."""


@dataclass(frozen=True)
class OperationPlace:
    """Where an operation's files lie below an archive's folder."""

    folder: Path
    operation: Operation

    @property
    def name(self) -> str:
        """The video's id as every file system takes it; different ids have different names."""
        name = quote(self.operation.video, safe=" ").replace(".", "%2E")
        if len(name) <= _LONGEST_NAME:
            return name
        return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(self.operation.video.encode()).hexdigest()[:16]}"

    @property
    def table(self) -> Path:
        return self.folder / "operations" / self.operation.root / f"{self.name}.parquet"

    @property
    def record(self) -> Path:
        return self.table.with_suffix(".json")

    @property
    def claim(self) -> Path:
        return self.folder / "claims" / self.operation.root / f"{self.name}.lock"

    @property
    def frames(self) -> Path:
        """A folder for decoded frames while the operation is scored."""
        return self.folder / "frames" / self.operation.root / self.name

    def read_record(self) -> dict[str, Any]:
        """The record, with the table's bytes held to it. Raises DamagedResult."""
        try:
            record: dict[str, Any] = read_checked(self.record)
            found = hashlib.sha256(self.table.read_bytes()).hexdigest()
            if found != record["sha256"]:
                raise ValueError("its bytes are not those that were written")
        except (OSError, ValueError, KeyError, TypeError, CalotError) as error:
            raise DamagedResult(f"{self.table}: {first_line(error)}") from error
        return record


class AttemptState(StrEnum):
    """How an attempt at an operation ended."""

    scored = "scored"
    found = "found"  # finished before, by whoever it was
    taken = "taken"  # another process is scoring it now
    failed = "failed"


@dataclass(frozen=True)
class Attempt:
    """What became of an operation, and why it failed."""

    operation: Operation
    state: AttemptState
    why: str = ""


@dataclass(frozen=True)
class ScoringJob:
    """What a worker needs: the archive's folder, and the work on one operation."""

    folder: Path
    scorer: Scorer


def attempt(operation: Operation, *, folder: Path, score: Score) -> Attempt:
    """Score one operation unless it is finished or another process has it; the system frees a dead process's claim.

    What goes wrong in `score` is a failed attempt. Raises CalotError where the archive's folder cannot be written.
    """
    place = OperationPlace(folder, operation)
    if place.record.exists():
        return Attempt(operation, AttemptState.found)
    with clear_disk_errors(place.claim):
        place.claim.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as claim:
        try:
            claim.enter_context(locked(place.claim, refusal="taken"))
        except CalotError:
            return Attempt(operation, AttemptState.taken)
        if place.record.exists():  # finished until the claim was ours
            return Attempt(operation, AttemptState.found)
        start = time.monotonic()
        try:
            scored = score(operation)
        except Exception as error:  # of this operation alone: the others are scored, and this one is named at the end
            return Attempt(operation, AttemptState.failed, why=reason_of(error))
        scored.table.write(place.table)
        record = {
            "root": operation.root,
            "video": operation.video,
            "rows": scored.rows,
            "sha256": hashlib.sha256(place.table.read_bytes()).hexdigest(),
            "by": f"{platform.node()} {os.getpid()}",
            "seconds": round(time.monotonic() - start, 3),
            **scored.facts,
        }
        write_text(place.record, with_digest(record))
    return Attempt(operation, AttemptState.scored)


def reason_of(error: BaseException) -> str:
    """An error in one line, for a person."""
    if isinstance(error, CalotError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.split(".")[0] != "calot":
        return f"this needs the package {error.name!r}: pip install 'calot[train]'"
    said = machine_message(error)
    return said or f"a bug in calot, not in your input: {type(error).__name__}: {first_line(error)}"
