"""Another group's table of predictions as it stands, and what a layout must say to be read."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from calot.data.manifest import Manifest
from calot.errors import CalotError, first_line
from calot.reading import read_json

Scores = NDArray[np.float64]
Labels = NDArray[np.int8]
Place = tuple[str, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class TheirTable:
    """Rows as the file has them, criteria in calot's order, `(n, 3)`.

    `places` are video and frame number of each row, None where the file does not say and the layout's order must tell;
    `labels` None where it has none. `printed` is the mAP that the file itself states, `entry` the part of it that was
    read, `selection` how it was chosen among others, and `others` their mAP.
    """

    scores: Scores
    labels: Labels | None = None
    places: Sequence[Place] | None = None
    logits: bool = False
    printed: float | None = None
    entry: str = ""
    selection: str = "the file does not say how its model was chosen"
    others: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line says beside the file: the entry to take, where the file has several."""

    entry: str | None = None


class PredictionLayout(ABC):
    """One way in which predictions are published."""

    name: ClassVar[str]
    #: Whose code writes it, and where that was read.
    source: ClassVar[str]
    #: Whether a file of it may hold several parts, of which `--entry` names one.
    has_entries: ClassVar[bool] = False
    #: Whether files of it name criteria by a letter, whose order is Endoscapes' and the SAGES challenge's.
    by_letter: ClassVar[bool] = True

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether a file or folder is of this layout, by its beginning."""

    @abstractmethod
    def read(self, path: Path, *, asked: Asked) -> TheirTable:
        """Raises CalotError for what cannot be."""

    def order(self, manifest: Manifest, *, root: Path) -> list[Place]:
        """Video and frame of each row of a split, for a file that has no ids. Raises CalotError where nobody knows."""
        raise CalotError(f"layout {self.name}: the file names neither videos nor frames, and its order is not known")


def opened_json(path: Path) -> Any:
    """The JSON in a file. Raises CalotError naming it."""
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise CalotError(f"{path}: not readable as JSON ({reason}). Give the file as it was written.") from error


def begins_with(path: Path, text: str) -> bool:
    """Whether the first kilobytes of a regular file hold some text."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return text in file.read(1 << 16).decode("utf-8", errors="replace")


def stated_map(value: Any, *, where: str) -> float:
    """The mAP that a file states, a share. Raises CalotError for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise CalotError(f"{where}: {json.dumps(value, default=str)[:80]}; need a share from 0 to 1, or leave it out")
    return float(value)


def numbers_of(rows: Sequence[Any], *, where: str) -> Scores:
    """Three finite numbers per row. Raises CalotError naming the first row that has others."""
    if not isinstance(rows, (list, tuple)):
        raise CalotError(f"{where}: {json.dumps(rows, default=str)[:80]}; need a list of rows")
    found = np.empty((len(rows), 3))
    for number, row in enumerate(rows, 1):
        ok = isinstance(row, (list, tuple)) and len(row) == 3
        ok = ok and all(isinstance(v, (int, float)) and not isinstance(v, bool) and np.isfinite(v) for v in row)
        if not ok:
            shown = json.dumps(row, default=str)[:80]
            raise CalotError(f"{where}, row {number}: {shown}; need three finite numbers, one per criterion")
        found[number - 1] = row
    return found


def votes_of_rows(rows: Sequence[Any], *, where: str) -> Labels:
    """Labels 0 and 1, three per row."""
    found = numbers_of(rows, where=where)
    if not np.isin(found, (0, 1)).all():
        row = int(np.flatnonzero(~np.isin(found, (0, 1)).all(axis=1))[0])
        raise CalotError(f"{where}, row {row + 1}: {found[row].tolist()}; need labels 0 and 1")
    return found.astype(np.int8)
