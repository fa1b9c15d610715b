"""A run as a tracking service sees it: its name, its settings, and the rows of its metrics.csv."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from calot.provenance.pretraining_facts import epochs_of
from calot.reading import read_record
from calot.writing import write_json

#: Below a run's folder: what the services write there, and their logs.
FOLDER = "tracking"
_ID = "id.json"
_AGAIN = "remove the run's tracking folder: its log then starts again"


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A run that is followed.

    `folder` is the run's, `home` the folder of results, for a store of several runs. `id` is the run's in every
    service: a resumed run continues its log, and one that is started again gets another.
    """

    folder: Path
    home: Path
    id: str
    name: str
    settings: dict[str, str]

    @classmethod
    def of(cls, folder: Path, *, home: Path) -> Followed:
        """A run by its folder, with the id it has, or a new one. Raises CalotError for files that cannot be read."""
        record = read_record(folder / "experiment.json", remedy=_AGAIN)
        name = f"{record['name']} s{record['seed']}"
        told = {key: str(record[key]) for key in ("scale", "seed", "fingerprint") if key in record}
        return cls(
            folder=folder.absolute(),
            home=home.absolute(),
            id=_id_of(folder / FOLDER / _ID),
            name=name,
            settings=told | dict(_flat(record["experiment"])),
        )

    @property
    def place(self) -> Path:
        """Where a service writes what belongs to this run alone."""
        return self.folder / FOLDER

    def rows(self) -> list[dict[str, float]]:
        """The epochs so far, of all stages, in order: the defined numbers of each, by metrics.csv's columns."""
        if not (self.folder / "metrics.csv").exists():
            return []
        return [{key: float(value) for key, value in row.items() if _number(value)} for row in epochs_of(self.folder)]


def _id_of(path: Path) -> str:
    if not path.exists():
        write_json(path, {"id": uuid.uuid4().hex[:16]})
    return str(read_record(path, remedy=_AGAIN)["id"])


def _number(text: str | None) -> bool:
    try:
        return text is not None and math.isfinite(float(text))
    except ValueError:
        return False


def _flat(value: dict[str, Any], *, below: str = "") -> Iterator[tuple[str, str]]:
    """The settings that make the treatment, by dotted key; a component's own key holds its class.

    Of a path only its last name is told: folders are the machine's.
    """
    for key, held in value.items():
        name = f"{below}{key}" if key != "_type" else below.rstrip(".")
        if name in ("", "compute"):
            continue
        if isinstance(held, dict):
            yield from _flat(held, below=f"{name}.")
        elif isinstance(held, list) and any(isinstance(one, dict) for one in held):
            for number, one in enumerate(held):
                yield from _flat(one if isinstance(one, dict) else {"": one}, below=f"{name}[{number}].")
        else:
            yield name, _told(held)


def _told(value: Any) -> str:
    text = str(value)
    paths = (PurePosixPath(text), PureWindowsPath(text))
    return next((path.name for path in paths if path.is_absolute()), text)
