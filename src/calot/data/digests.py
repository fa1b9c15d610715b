"""What a cache keeps, and how it is checked to be what was written: JSON with its own digest, digests of files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calot.errors import CalotError
from calot.reading import open_plain, read_json

_WHOLE = 64 << 20  # a larger file, a video, is known by blocks from all over it
_BLOCK, _BLOCKS = 1 << 18, 32
_ANY_SIZE = 1 << 62


def with_digest(value: Any) -> str:
    """JSON text of a value together with its digest."""
    return json.dumps({"sha256": _digest(value), "value": value}, allow_nan=False)


def held_to_digest(found: Any) -> Any:
    """The value in such JSON, once read. Raises ValueError where it is not as it was written."""
    if not isinstance(found, dict) or found.get("sha256") != _digest(found.get("value")):
        raise ValueError("its content does not match its own digest")
    return found["value"]


def read_checked(path: Path) -> Any:
    """The value in a file of such JSON. Raises OSError, or ValueError where it is not as it was written."""
    return held_to_digest(read_json(path))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """A short digest of a file's bytes: all of them, or of blocks from all over a large one."""
    with open_plain(path, largest=_ANY_SIZE) as file:
        size = file.seek(0, 2)
        digest = hashlib.sha256(str(size).encode())
        starts = [0] if size <= _WHOLE else np.linspace(0, size - _BLOCK, _BLOCKS).astype(int).tolist()
        for start in starts:
            file.seek(start)
            digest.update(file.read(size if size <= _WHOLE else _BLOCK))
    return digest.hexdigest()[:16]


def spot_check(
    files: Sequence[Path], digests: Sequence[str], *, count: int | None, rng: np.random.Generator, remedy: str
) -> None:
    """Check some files, or all where `count` is None, against stored digests; raises CalotError naming the first
    whose bytes have changed."""
    chosen = range(len(files)) if count is None or count >= len(files) else rng.choice(len(files), count, replace=False)
    for place in sorted(int(i) for i in chosen):
        try:
            same = file_digest(files[place]) == digests[place]
        except OSError as error:
            raise CalotError(f"{files[place]}: cannot be read ({error.strerror}). Copy it there again.") from error
        if not same:
            raise CalotError(
                f"{files[place]}: its bytes changed, under the same size and time, since they were read. {remedy}"
            )
