"""Files are checked before they are read: nothing waits on a pipe, and no file fills the memory.

What is refused here is an OSError with a `strerror` for people: readers handle it like any unreadable file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from calot.errors import CalotError, first_line

_MB = 1 << 20
#: The most bytes of one picture, of one table and of one JSON file that are ever read.
LARGEST_PICTURE, LARGEST_TABLE, LARGEST_JSON = 64 * _MB, 2048 * _MB, 512 * _MB
#: The most bytes of one of the JSON files of a run's folder.
LARGEST_RECORD = 64 * _MB

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a whole file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_file(path: Path, *, remedy: str) -> None:
    """Raises CalotError where no file is, saying what stands there in its place."""
    if path.is_file():
        return
    found = next((kind for test, kind in _KINDS if path.exists() and test(path.stat().st_mode)), None)
    raise CalotError(f"{path}: {f'{found}, not a file' if found else 'no such file'}. {remedy}")


class NotPlain(OSError):
    """A path that is not a regular file of reasonable size."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(errno.EINVAL, reason, str(path))


class Exhausted(Exception):
    """The machine has run out of open files or memory: not the file's fault, so neither OSError nor a finding."""


def plain_size(path: Path, *, largest: int) -> int:
    """Bytes of the regular file at `path`, links followed. Raises OSError, NotPlain among them, for any other."""
    return _checked(path, os.stat(path), largest=largest)


def open_plain(path: Path, *, largest: int) -> BinaryIO:
    """Open a regular file of at most `largest` bytes for reading; never waits for a pipe put in its place."""
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
    """The text of a regular file. Raises OSError, or ValueError where it is not text."""
    return read_plain(path, largest=largest).decode(encoding)


def read_json(path: Path, *, largest: int = LARGEST_JSON) -> Any:
    """The value in a JSON file. Raises OSError, or ValueError where it is not JSON or is nested too deeply."""
    data = read_plain(path, largest=largest)
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply to be ours") from None


def read_record(path: Path, *, remedy: str) -> dict[str, Any]:
    """The object in a JSON file that calot wrote. Raises CalotError naming the file, what is wrong, and the remedy.

    Stricter than usual JSON readers: a name given twice, NaN, a number beyond float's, half a character.
    """
    try:
        text = read_plain(path, largest=LARGEST_RECORD).decode("utf-8-sig")
        value = json.loads(text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_each_once)
        json.dumps(value, ensure_ascii=False).encode()
    except FileNotFoundError:
        raise CalotError(f"{path}: no such file; {remedy}") from None
    except OSError as error:
        raise CalotError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except (RecursionError, MemoryError):
        raise CalotError(f"{path}: not JSON that calot wrote (nested too deeply); {remedy}") from None
    except ValueError as error:
        raise CalotError(f"{path}: not JSON that calot wrote ({first_line(error)[:200]}); {remedy}") from None
    if not isinstance(value, dict):
        raise CalotError(f"{path}: holds a {type(value).__name__}, expected an object; {remedy}")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is not a finite number")
    return number


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, _ in pairs if [n for n, _ in pairs].count(name) > 1)
        raise ValueError(f"{twice[:40]!r} is given twice")
    return found


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
