"""Where decoded frames and masks are kept: below the data set's own folder, or elsewhere if that is read-only."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from calot.errors import CalotError
from calot.writing import whole_file

#: What a person may do if the cache's usual place does not work.
ELSEWHERE = "a cache elsewhere (calot data store: --cache FOLDER, in training: compute.cache=FOLDER)"


def cache_folder(root: Path, cache: Path | None) -> Path:
    """The `cache` that was asked for, or `ROOT/.calot`."""
    return cache or root / ".calot"


@contextmanager
def cached_file(path: Path) -> Iterator[Path]:
    """As `whole_file`; where the disk refuses, the message says how to give another place."""
    try:
        with whole_file(path) as part:
            yield part
    except CalotError as error:
        raise CalotError(f"{error} Or give {ELSEWHERE}.") from error
    except OSError as error:
        raise CalotError(f"{path}: cannot be written ({error.strerror}). Give {ELSEWHERE}.") from error


@dataclass(frozen=True, kw_only=True)
class CachePart:
    """What one kind of cache holds. All of it can be made again, from the data set and the weights."""

    kind: str
    path: Path
    entries: int
    bytes: int


def cache_parts(root: Path, cache: Path | None = None) -> list[CachePart]:
    """What lies in a data set's cache, by kind: `store` (frames), `masks`, `features`, `baselines`,
    `appearance` (brightness and sharpness of frames)."""
    home = cache_folder(root, cache)
    kinds = sorted(path for path in home.iterdir() if path.is_dir()) if home.is_dir() else []
    return [
        CachePart(
            kind=path.name,
            path=path,
            entries=sum(1 for entry in path.iterdir() if entry.suffix != ".lock"),
            bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        )
        for path in kinds
    ]


def clear_cache(part: CachePart) -> None:
    """Remove a kind's folder. Raises CalotError where the disk refuses."""
    try:
        shutil.rmtree(part.path)
    except OSError as error:
        raise CalotError(f"{part.path}: cannot be removed ({error.strerror}); nothing else was touched") from error
