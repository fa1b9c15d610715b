"""Files written whole or not at all: the one place that replaces an old file by a new one."""

from __future__ import annotations

import errno
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from calot.errors import CalotError

#: The disk, a user's share of it, or the largest file allowed is used up; 112 is Windows' own number for the first.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC), 112 if os.name == "nt" else errno.ENOSPC}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on leaving, it is flushed to disk and put in place.

    If anything fails, the new file is removed and the old one stays as it was. Raises CalotError where the disk is
    full or the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    with clear_disk_errors(path):
        if path.is_dir():
            raise CalotError(f"{path}: a folder stands where a file must be. Move it away, or give another place.")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            sync(part)
            os.replace(part, path)
            sync_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def clear_disk_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write below `path` into a message with a remedy."""
    try:
        yield
    except Exception as error:
        message = disk_message(error, path=path)
        if message is None:
            raise
        raise CalotError(message) from error


def disk_message(error: BaseException, *, path: Path | str | None = None) -> str | None:
    """What to tell a person about an error that means a full or forbidden disk, or None for other errors."""
    number = error.errno if isinstance(error, OSError) else _number_in(str(error))
    where = path or getattr(error, "filename", None) or "a file"
    if number is not None and number in _FULL:
        reason = os.strerror(number)
        return f"{where}: the disk is full ({reason}); what was there is intact. Free space, then try again."
    if number in _DENIED and isinstance(error, OSError):
        if path is None:  # nothing says what was being done with it
            return f"{where}: {error.strerror}. Fix its permissions, or give another place."
        return f"{where}: cannot be written ({error.strerror}). Choose a folder you may write."
    return None


def _number_in(text: str) -> int | None:
    """Libraries in Rust (safetensors) pass the system's error on as text."""
    found = re.search(r"\(os error (\d+)\)", text)
    return int(found[1]) if found else None


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text with plain line ends, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_json(path: Path, data: Any) -> Path:
    """Write JSON, whole or not at all; NaN is refused."""
    return write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def sync(path: Path) -> None:
    """Make the system flush a written file to disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make the system flush a folder's own entries to disk, after a rename in it; Windows has no such call."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
