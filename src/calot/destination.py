"""Where a command may write: a new place, or one that holds what calot wrote. Never over an input or a user's file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from calot.errors import CalotError

#: Of a large file, its two ends are looked at: calot's pages, texts and tables name it there.
_LOOKED_AT = 1 << 16
_SEAL = "seal.json"


def require_folder(out: Path, *, records: Iterable[str], option: str = "--out") -> None:
    """Raises CalotError where a command may not put its files: `out` or what it lies in is a file, or the folder holds
    something and none of the `records` (paths within it) by which that command knows its own."""
    require_no_file(out, option=option)
    held = sorted(path.name for path in out.iterdir() if path.name[0] != ".") if out.is_dir() else []
    if held and not any(written_by_calot(out / name) for name in records):
        raise CalotError(f"{option} {out}: the folder holds something else ({held[0]}). Give a new one.")


def require_no_file(out: Path, *, option: str = "--out") -> None:
    """Raises CalotError where a file stands in the place of a folder, or of one that it lies in."""
    for place in (out, *out.parents):
        if place.exists() and not place.is_dir():
            raise CalotError(f"{option} {out}: {place} is a file; give a folder")


def require_free_file(out: Path, *, inputs: Iterable[Path] = (), option: str = "--out") -> None:
    """Raises CalotError where a file may not be written: it is an input, a folder, or exists and is none of calot's;
    or it is a file of a complete run, which is sealed."""
    for path in inputs:
        if out.exists() and path.exists() and os.path.samefile(out, path):
            raise CalotError(f"{option} {out}: is what is read; give another name")
    if out.is_dir():
        raise CalotError(f"{option} {out}: a folder stands where a file must be; give a file's name")
    if not out.exists():
        return
    if run := next((place for place in out.resolve().parents if (place / _SEAL).is_file()), None):
        raise CalotError(f"{option} {out}: is a file of the run {run.name}, which is complete; give another name")
    if not written_by_calot(out):
        raise CalotError(f"{option} {out}: exists, and calot did not write it; give another name")


def written_by_calot(path: Path) -> bool:
    """Whether a file says that calot wrote it: a JSON record by its `format` or version, anything else by name."""
    if not path.is_file():
        return False
    if path.suffix == ".json":
        try:
            held = json.loads(path.read_bytes())
        except (ValueError, OSError):
            return False
        return isinstance(held, dict) and bool(held.keys() & {"format", "calot"})
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT)
        file.seek(max(0, path.stat().st_size - _LOOKED_AT))
        return b"calot" in start or b"calot" in file.read(_LOOKED_AT)
