"""An assessed operation as `calot assess` leaves it: assess.json, scores.parquet, stills."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from calot.errors import CalotError, first_line
from calot.reading import LARGEST_TABLE, read_plain, read_record
from calot.statistics import seal

FACTS, SCORES, STILLS = "assess.json", "scores.parquet", "stills"
NOTICE = "Research software. Not a medical device: nothing here may guide the care of a patient."
#: The still of the first passage in which all criteria held; the others are called after their criterion.
HELD = "held"
FORMAT = 1
#: Faults with which a part of the operation was not seen.
LOSSES = ("truncated", "damaged")


@dataclass(frozen=True, kw_only=True, eq=False)
class Assessment:
    """`facts` is assess.json, `scores` has one row a scored second (docs/assess.md has the columns)."""

    facts: dict[str, Any]
    scores: pl.DataFrame

    @property
    def incomplete(self) -> list[dict[str, Any]]:
        """Faults with which a part of the operation was not seen."""
        return [fault for fault in self.facts["faults"] if fault["kind"] in LOSSES]

    @classmethod
    def read(cls, out: Path) -> Assessment:
        """Read a finished folder. Raises CalotError where it is not one, or is damaged."""
        again = "assess the operation again (calot assess)"
        if not (out / FACTS).is_file():
            raise CalotError(f"{out}: not a finished assessment: there is no {FACTS}; {again}.")
        facts = read_record(out / FACTS, remedy=again)
        if facts.get("format") != FORMAT:
            raise CalotError(f"{out / FACTS}: its format is {facts.get('format')!r}, expected {FORMAT}; {again}.")
        try:
            raw = read_plain(out / SCORES, largest=LARGEST_TABLE)
            if not seal.holds_seal(raw, source=str(out / SCORES)):
                raise ValueError("it carries no digest")
            scores = pl.read_parquet(io.BytesIO(raw))
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise CalotError(f"{out / SCORES}: cannot be read ({first_line(error)}); {again}.") from error
        return cls(facts=facts, scores=scores)
