"""Where decoded frames and masks are kept: below the data set's own folder, or elsewhere if that is read-only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
