"""What the machine refuses (memory, threads, files, disks), said with the setting or the limit that helps."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from calot.errors import CalotError, first_line
from calot.reading import Exhausted
from calot.writing import disk_message

_LESS = (
    "In training lower compute.micro_batch, compute.evaluation_batch, train.batch or compute.workers; in other "
    "commands lower --workers"
)
#: What Python, BLAS and the table library map at start-up.
_LEAST_ADDRESSES, TRAINING_ADDRESSES = 3 << 29, 3 << 30
#: Parts of messages by which libraries report a lack of memory; only some use a type of exception for it.
_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "could not allocate",
    "unable to allocate",
    "memory allocation",
    "failed to map segment",
    "std::bad_alloc",
    "not enough memory",
    "could not create a primitive",  # oneDNN, whose kernels take memory of their own
    "could not create a memory",
)
_NO_THREAD = ("can't start new thread", "resource temporarily unavailable", "pthread_create")
#: errno -> what to do, of a file that is named beside it.
_FILES = {
    errno.EMFILE: "This process may open no more files: raise the limit (ulimit -n 4096), or lower the workers",
    errno.ENFILE: "The whole machine has too many files open: close other programs, then run the same command again",
    errno.EIO: "The device failed, not the file's content: check the disk or the network share, and save the data",
    errno.ESTALE: "The network share was remounted: run the same command again",
    errno.ETIMEDOUT: "The network share does not answer: check it, then run the same command again",
    errno.ENODEV: "The device is gone: check the disk or the network share",
    errno.ENXIO: "The device is gone: check the disk or the network share",
    errno.ELOOP: "Links lead in a circle: remove one of them",
    errno.ENAMETOOLONG: "Give a shorter name",
    errno.ETXTBSY: "Another program is running it: stop that program first",
    errno.EBUSY: "Another program is using it: stop that program first",
}

#: Of these, what another attempt need not meet.
_PASSING = {errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, on a GPU or the machine's, did not suffice."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or _means(error, errno.ENOMEM) or any(part in text for part in _NO_MEMORY)


def may_pass(error: BaseException) -> bool:
    """Whether the same work may succeed at another time: too little memory, no thread or open file left, a worker
    killed from outside, a device or a network share that does not answer."""
    error = error.__cause__ if isinstance(error, Exhausted) and error.__cause__ is not None else error
    text = str(error).lower()
    return (
        is_out_of_memory(error)
        or (isinstance(error, (RuntimeError, OSError)) and any(part in text for part in _NO_THREAD))
        or type(error).__name__ == "BrokenProcessPool"
        or (isinstance(error, OSError) and error.errno in _PASSING)
    )


def machine_message(error: BaseException) -> str | None:
    """What to tell a person about an error caused by the machine, or None for other errors."""
    error = error.__cause__ if isinstance(error, Exhausted) and error.__cause__ is not None else error
    text = str(error).lower()
    if isinstance(error, RecursionError):
        return "a file or a value is nested too deeply to be read. Give one that calot wrote, or flatten it."
    if is_out_of_memory(error):
        return f"out of memory ({first_line(error)}){_limit('RLIMIT_AS', 'ulimit -v')}. {_LESS}, or free memory."
    if isinstance(error, (RuntimeError, OSError)) and any(part in text for part in _NO_THREAD):
        found = _limit("RLIMIT_NPROC", "ulimit -u")
        return f"cannot start another thread or process ({first_line(error)}){found}. {_LESS}."
    if type(error).__name__ == "BrokenProcessPool":
        return f"a worker process was killed from outside, most likely for lack of memory. {_LESS}."
    if not isinstance(error, OSError):
        return disk_message(error)
    where = f"{error.filename}: " if error.filename is not None else ""
    if error.errno in _FILES:
        return f"{where}{error.strerror}. {_FILES[error.errno]}."
    said = disk_message(error)
    return f"{where}{error.strerror}. Check the path." if said is None and where else said


def require_address_space(least: int = _LEAST_ADDRESSES) -> None:
    """Refuse a limit under which libraries cannot even be loaded: they end the process in their own ways, or hang."""
    allowed = limit("RLIMIT_AS")
    if allowed is not None and allowed < least:
        raise CalotError(
            f"this process may use {allowed / 1e9:.1f} GB of address space (ulimit -v), too little to load its "
            f"libraries. Raise it: ulimit -v unlimited, or {least // 1024} at least."
        )


def _means(error: BaseException, number: int) -> bool:
    return isinstance(error, OSError) and error.errno == number


def _limit(name: str, command: str) -> str:
    """The limit that this process was started under, where there is one: ` of the 2.0 GB that ulimit -v allows`."""
    found = limit(name)
    if found is None:
        return ""
    amount = f"{found / 1e9:.1f} GB" if name == "RLIMIT_AS" else f"{found:,}"
    return f"; the limit here is {amount} ({command})"


def limit(name: str) -> int | None:
    """A limit of this process by its name in `resource`; None where there is none, and on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    value: Any = resource.getrlimit(getattr(resource, name))[0]
    return None if value == resource.RLIM_INFINITY else int(value)


def before_torch() -> None:
    """What its libraries read when they are first imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads spin on busy cores otherwise
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it a GPU's products are not repeatable
