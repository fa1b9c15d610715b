"""An append-only record, `ledger.jsonl` in a folder: one JSON line per event, never rewritten."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from calot.errors import CalotError
from calot.locking import locked
from calot.writing import clear_disk_errors

NAME = "ledger.jsonl"
TEST_OPENED = "test_opened"
PREDICTED = "predicted"
#: A mean of predictions was scored: one more setting tried on these labels, though no treatment of its own.
COMBINED = "combined"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line: what happened, when (UTC), and its facts."""

    event: str
    time: str
    facts: dict[str, Any]


def make_entry(event: str, **facts: Any) -> Entry:
    """An event that happens now; `facts` are JSON values."""
    return Entry(event=event, time=datetime.now(UTC).isoformat(timespec="microseconds"), facts=facts)


def append(folder: Path, entry: Entry) -> None:
    """Append one line, in a single write to a file opened for appending, flushed to disk, under a lock between
    processes.

    Raises CalotError where the last line is unfinished: nothing is ever appended to a broken line.
    """
    try:
        line = json.dumps({"event": entry.event, "time": entry.time, **entry.facts}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CalotError(f"ledger event {entry.event!r}: {error}; facts are JSON values without NaN") from error
    path = Path(folder) / NAME
    with clear_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with clear_disk_errors(path), locked(path.with_suffix(".lock")):
        _refuse_unfinished(path)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        try:
            data, before = line.encode() + b"\n", os.fstat(handle).st_size
            if os.write(handle, data) != len(data):
                os.ftruncate(handle, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)


def read(folder: Path) -> tuple[Entry, ...]:
    """Every entry, oldest first; a line that is not an entry is a CalotError naming the line."""
    path = Path(folder) / NAME
    if not path.exists():
        return ()
    entries = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        entries.append(_parse(line, where=f"{path}, line {number}"))
    _refuse_unfinished(path)
    return tuple(entries)


def _parse(line: bytes, *, where: str) -> Entry:
    try:
        fields = json.loads(line)
        event, time = fields.pop("event"), fields.pop("time")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CalotError(
            f"{where}: not an entry ({line[:60]!r}); "
            "restore the ledger from a copy, or move it "
            f"away and say so in the report"
        ) from error
    return Entry(event=str(event), time=str(time), facts=fields)


def _refuse_unfinished(path: Path) -> None:
    """A file that does not end in a line break was cut off in the middle of a line."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        if stream.read(1) != b"\n":
            stream.seek(0)
            number = stream.read().count(b"\n") + 1
            raise CalotError(f"{path}, line {number}: unfinished (no line break at its end); fix or remove that line")
