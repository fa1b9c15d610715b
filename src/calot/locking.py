"""Locks between processes. The system frees them when their process dies, so that none is ever stale."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from calot.errors import CalotError


@contextmanager
def locked(path: Path, *, refusal: str | None = None) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, made where it is not there and left there afterwards.

    Waits for it; with a `refusal`, raises CalotError saying that where another process holds it. A forked process does
    not keep its parent's lock.
    """
    lock = FileLock(path, timeout=-1 if refusal is None else 0, poll_interval=0.02)
    try:
        lock.acquire()
    except Timeout:
        raise CalotError(str(refusal)) from None
    try:
        yield
    finally:
        lock.release()
