"""Files read only after a look at what they are: nothing waits on a pipe, and no file fills the memory.

What is refused here is an OSError with a `strerror` for people: whoever reads handles it as any unreadable file.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

_MB = 1 << 20
#: The most bytes of one picture, of one table and of one JSON file that are ever read.
LARGEST_PICTURE, LARGEST_TABLE, LARGEST_JSON = 64 * _MB, 2048 * _MB, 512 * _MB

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotPlain(OSError):
    """A path that names something else than a regular file of sane size."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(errno.EINVAL, reason, str(path))


class Exhausted(Exception):
    """The machine has no more open files or memory to give: no fault of the file, so neither OSError nor a finding."""


def plain_size(path: Path, *, largest: int) -> int:
    """Bytes of the regular file at `path`, links followed. Raises OSError, NotPlain among them, for any other."""
    return _checked(path, os.stat(path), largest=largest)


def open_plain(path: Path, *, largest: int) -> BinaryIO:
    """Open a regular file of at most `largest` bytes for reading; a pipe put in its place is not waited for."""
    plain_size(path, largest=largest)
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  # the caller closes it
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise Exhausted(str(error)) from error
        raise
    try:
        _checked(path, os.fstat(file.fileno()), largest=largest)
    except BaseException:
        file.close()
        raise
    return file


def read_plain(path: Path, *, largest: int) -> bytes:
    """The bytes of a regular file of at most `largest`; also where it grows while it is read."""
    with open_plain(path, largest=largest) as file:
        data = file.read(os.fstat(file.fileno()).st_size)  # never `largest`: that much memory would be asked for
        while (more := file.read(_MB)) and len(data) <= largest:
            data += more
    if len(data) > largest:
        raise NotPlain(path, _too_large(len(data), largest=largest))
    return data


def read_text(path: Path, *, largest: int = LARGEST_TABLE, encoding: str = "utf-8") -> str:
    """The text of a regular file. Raises OSError, or ValueError where it is none."""
    return read_plain(path, largest=largest).decode(encoding)


def read_json(path: Path, *, largest: int = LARGEST_JSON) -> Any:
    """The value in a JSON file. Raises OSError, or ValueError where it is no JSON or nested beyond reason."""
    data = read_plain(path, largest=largest)
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply to be ours") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _checked(path: Path, found: os.stat_result, *, largest: int) -> int:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "something else")
        raise NotPlain(path, f"{kind}, not a regular file")
    if found.st_size > largest:
        raise NotPlain(path, _too_large(found.st_size, largest=largest))
    return found.st_size


def _too_large(size: int, *, largest: int) -> str:
    return f"{size:,} bytes; at most {largest:,} are read"
