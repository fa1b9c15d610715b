"""Locks between processes. The system frees them when their process dies, so that none is ever stale."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calot.errors import CalotError

_held: set[int] = set()  # file descriptors of locks that this process holds


@contextmanager
def locked(path: Path, *, refusal: str | None = None) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, made where it is not there and left there afterwards.

    Waits for it; with a `refusal`, raises CalotError saying that where another process holds it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _held.add(handle)
    try:
        while not _taken(handle):
            if refusal is not None:
                raise CalotError(refusal)
            time.sleep(0.02)
        yield
    finally:
        if handle in _held:  # not in a forked process, which has given its copy up
            _held.remove(handle)
            os.close(handle)


def _taken(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, 0, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # how Linux and macOS, and how Windows say that another one holds it
        return False
    return True


def _give_up_copies() -> None:
    """A forked process shares its parent's locks: it must not keep them when the parent dies."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_give_up_copies)
