"""A short real `fn` for `map(fn, operations)`: a computed parquet per operation, and a log of who began which.

    python tests/helpers/short_operations.py FOLDER LOG --count 1000 --engine processes

is one start of such an archive as a process of its own, to be killed. Nothing here imports torch.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from calot.archive.engines import Engine, Inline
from calot.archive.local import LocalProcesses
from calot.archive.mapping import Archive, Mapped, map_operations
from calot.archive.operations import DamagedResult, Operation, OperationResult, Score, Scorer
from calot.errors import CalotError
from calot.progress import Silent
from calot.writing import whole_file

ROWS = 5


@dataclass(frozen=True)
class Numbers:
    """A small table."""

    frame: pl.DataFrame

    def write(self, path: Path) -> Path:
        with whole_file(path) as part:
            self.frame.write_parquet(part)
        return path


@dataclass(frozen=True)
class Short(Scorer):
    """Random numbers seeded by the operation's name. Names in `bad` raise, those in `deadly` kill their process."""

    log: Path
    pause_s: float = 0.0
    bad: tuple[str, ...] = ()
    deadly: tuple[str, ...] = ()
    unopened: str = ""

    def open(self) -> Score:
        if self.unopened:
            raise CalotError(self.unopened)
        return partial(_short, self)

    def require(self, operation: Operation, *, table: Path, record: Mapping[str, Any]) -> None:
        if pl.read_parquet(table).height != record["rows"]:
            raise DamagedResult(f"{table}: rows are missing")


def _short(asked: Short, operation: Operation) -> OperationResult:
    _note(asked.log, f"{os.getpid()}\t{operation.root}\t{operation.video}\n")
    if operation.video in asked.deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    if operation.video in asked.bad:
        raise CalotError(f"{operation.video}/frame_7.jpg: cut short")
    time.sleep(asked.pause_s)
    seed = int.from_bytes(hashlib.sha256(str(operation).encode()).digest()[:4], "big")
    values = np.random.default_rng(seed).normal(size=ROWS)
    return OperationResult(table=Numbers(pl.DataFrame({"video": [operation.video] * ROWS, "value": values})), rows=ROWS)


def _note(log: Path, line: str) -> None:
    """One whole line, whoever else writes."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, line.encode())
    os.close(handle)


def begun(log: Path) -> list[tuple[int, Operation]]:
    """Which process began which operation, in order."""
    lines = [line.split("\t") for line in log.read_text().splitlines()] if log.exists() else []
    return [(int(pid), Operation(root, video)) for pid, root, video in lines]


def short_archive(folder: Path, scorer: Short, *, count: int = 12) -> Archive:
    """Operations of two roots whose videos have the same ids."""
    operations = [Operation(f"root{number % 2}", str(number // 2)) for number in range(count)]
    return Archive(folder=folder, operations=operations, scorer=scorer, identity={"run": "a" * 64})


def mapped(archive: Archive, engine: Engine | None = None) -> Mapped:
    """One start of an archive."""
    return map_operations(archive, engine=engine or Inline(), ui=Silent())


def tables(archive: Archive) -> dict[str, str]:
    """SHA-256 of each operation's table that is there."""
    paths = sorted(archive.folder.glob("operations/*/*.parquet"))
    return {str(p.relative_to(archive.folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    archive = short_archive(asked.folder, Short(log=asked.log, pause_s=asked.pause), count=asked.count)
    done = mapped(archive, LocalProcesses(workers=asked.workers))
    print(len(done.found), len(done.scored), len(done.failed), flush=True)


if __name__ == "__main__":
    _main()
