"""What one part of `calot explain` found, and how it lies in a folder: facts as JSON, tables, arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.errors import CalotError
from calot.reading import read_record
from calot.writing import whole_file, write_json

FORMAT = 1
_AGAIN = "run `calot explain` again"


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """One part's answers. `facts` are plain JSON values; `tables` have rows a person may sort (no nested columns);
    `arrays` are what pictures are made of. `subject` says which run, split and clips they are of."""

    subject: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def write(self, folder: Path, *, name: str) -> None:
        """`NAME.json`, written last; `NAME_TABLE.csv` and `.parquet`; `NAME.npz` where there are arrays."""
        remove_findings(folder, name=name)
        for title, table in self.tables.items():
            with whole_file(folder / f"{name}_{title}.parquet") as part:
                table.write_parquet(part)
            with whole_file(folder / f"{name}_{title}.csv") as part:
                table.write_csv(part)
        if self.arrays:
            raw = BytesIO()
            held: dict[str, Any] = dict(self.arrays)
            np.savez_compressed(raw, **held)
            with whole_file(folder / f"{name}.npz") as part:
                part.write_bytes(raw.getvalue())
        record = {"format": FORMAT, "part": name, "tables": list(self.tables), "arrays": bool(self.arrays)}
        write_json(folder / f"{name}.json", record | {"subject": dict(self.subject), "facts": dict(self.facts)})

    @classmethod
    def read(cls, folder: Path, *, name: str) -> Self:
        """What an earlier call wrote. Raises CalotError for files that are missing or none of ours."""
        path = folder / f"{name}.json"
        record = read_record(path, remedy=_AGAIN)
        if record.get("format") != FORMAT or record.get("part") != name:
            raise CalotError(f"{path}: not what this calot reads (format {record.get('format')}); {_AGAIN}")
        try:
            tables = {title: pl.read_parquet(folder / f"{name}_{title}.parquet") for title in record["tables"]}
            arrays: dict[str, NDArray[Any]] = {}
            if record["arrays"]:
                with np.load(folder / f"{name}.npz", allow_pickle=False) as held:
                    arrays = {title: held[title] for title in held.files}
            return cls(subject=record["subject"], facts=record["facts"], tables=tables, arrays=arrays)
        except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            raise CalotError(f"{folder}: {name} is not readable ({type(error).__name__}); {_AGAIN}") from error


def remove_findings(folder: Path, *, name: str) -> None:
    """Take an earlier call's files of a part away, the record first; of the tables those that the record names."""
    try:
        tables = read_record(folder / f"{name}.json", remedy=_AGAIN).get("tables")
    except CalotError:
        tables = None
    files = [f"{name}_{title}.{kind}" for title in tables or () for kind in ("parquet", "csv")]
    for file in (f"{name}.json", f"{name}.npz", *files):
        (folder / file).unlink(missing_ok=True)
