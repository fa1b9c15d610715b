"""Files written whole or not at all: the one place that puts a new file where an old one stood."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from calot.errors import CalotError

_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on leaving, it is flushed to disk and put in place.

    Where anything fails the new file is removed and the old one stays as it was. Raises CalotError where the disk is
    full or the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    with clear_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            sync(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def clear_disk_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write below `path` into a message with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise CalotError(
                f"{path}: the disk is full; what stood there before is intact. Free space, then run the same again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise CalotError(f"{path}: cannot be written ({error.strerror}). Choose a folder you may write.") from error
        raise


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text with plain line ends, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_json(path: Path, data: Any) -> Path:
    """Write JSON, whole or not at all; NaN is refused."""
    return write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def sync(path: Path) -> None:
    """Have the system put a written file on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
