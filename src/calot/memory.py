"""Freed memory is kept for the next batch: without this, a CPU spends more on getting new pages than on filling them.

glibc gives large blocks back to the system at once, and every batch, activation and gradient then costs a page fault
per 4 KiB again. Other systems, and a `MALLOC_*` setting or `GLIBC_TUNABLES` of the user's own, are left alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_KEEP = (2**31 - 1, 2**30)
#: What glibc's own thresholds rise to in a program that frees large blocks (mallopt(3), 64 bit).
_AS_STARTED = (2**26, 2**25)


def keep_freed_memory() -> bool:
    """Keep what is freed, up to blocks of 1 GiB, in this process; returns whether this machine can."""
    return _set(_KEEP)


def give_back() -> None:
    """Return what is kept to the system, where other libraries of this process can have it."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@contextlib.contextmanager
def memory_as_started() -> Iterator[None]:
    """For a while, memory as a program has it that says nothing about it; what is kept goes back first."""
    able = _set(_AS_STARTED)
    if able:
        give_back()
    try:
        yield
    finally:
        if able:
            _set(_KEEP)


def _set(thresholds: tuple[int, int]) -> bool:
    libc, names = _glibc(), (_TRIM_THRESHOLD, _MMAP_THRESHOLD)
    chosen = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if chosen or libc is None:
        return False
    return all(libc.mallopt(which, size) for which, size in zip(names, thresholds, strict=True))


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc; to find out, Python reads its own program's file."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
