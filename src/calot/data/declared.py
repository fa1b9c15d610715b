"""`dataset.json`: what the owner of a folder says of it that its files cannot show, its name and its frame rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from calot.data.manifest import PUBLISHED
from calot.errors import CalotError, first_line, nearest_name
from calot.reading import read_json

DECLARED = "dataset.json"


@dataclass(frozen=True, kw_only=True)
class Declared:
    """All fields may be absent. `frames_per_second`: how many frame numbers pass in a second of video;
    `seconds_apart`: the time between one sampled frame and the next; `first_frame`: the number that pictures' names
    begin with, 0 or 1, where labels count from 0; `split_seed`: of a split by video that calot draws, where none is
    published."""

    name: str | None = None
    frames_per_second: float | None = None
    seconds_apart: float | None = None
    first_frame: int | None = None
    split_seed: int | None = None

    @classmethod
    def of(cls, root: Path) -> Declared:
        """Read a folder's `dataset.json`, where there is one. Raises CalotError naming the field that is wrong."""
        path = root / DECLARED
        if not path.exists():
            return cls()
        try:
            data = read_json(path, largest=1 << 20)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else first_line(error)
            raise CalotError(f"{path}: not readable as JSON ({reason}). Write it again.") from error
        if not isinstance(data, dict):
            raise CalotError(f'{path}: holds no JSON object. Write for example {{"name": "our-hospital"}}.')
        known = [f.name for f in fields(cls)]
        for name in data:
            if name not in known:
                raise CalotError(f'{path}: "{name}" is not a field of it.{nearest_name(name, among=known)}')
        name = data.get("name")
        if name is not None and (not isinstance(name, str) or not name.strip() or not name.isprintable()):
            raise CalotError(f"{path}: name is {name!r}; give a name of its own as text.")
        if name is not None and name.strip().casefold() in PUBLISHED:
            raise CalotError(f'{path}: name "{name}" is another data set\'s, known by its content. Give its own name.')
        numbers = {key: _number(data, key, path=path) for key in ("frames_per_second", "seconds_apart")}
        return cls(
            name=None if name is None else name.strip(),
            **numbers,
            first_frame=_whole(data, "first_frame", path=path, most=1),
            split_seed=_whole(data, "split_seed", path=path, most=2**31 - 1),
        )

    def dataset(self, root: Path) -> str:
        """The name that results carry: the declared one, else the folder's, never that of a published data set."""
        if self.name is not None:
            return self.name
        name = root.resolve().name or "unnamed"
        return f"{name} (a folder's name)" if name.casefold() in PUBLISHED else name


def _number(data: dict[str, Any], key: str, *, path: Path) -> float | None:
    value = data.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value > 0 and math.isfinite(value)):
        raise CalotError(f"{path}: {key} is {value!r}; give a number above 0.")
    return float(value)


def _whole(data: dict[str, Any], key: str, *, path: Path, most: int) -> int | None:
    value = data.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise CalotError(f"{path}: {key} is {value!r}; give a whole number from 0 to {most}.")
    return value
