"""Marks of people on an operation, as the review page exports them and takes them in again: a CSV file."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

from calot.criteria import CRITERIA
from calot.errors import CalotError, nearest_name
from calot.reading import read_text

COLUMNS = ("operation", "criterion", "verdict", "start", "end", "note", "rater")
VERDICTS = ("achieved", "not achieved", "not assessable")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A stretch of an operation (seconds), what somebody says of a criterion in it, and who."""

    criterion: str
    verdict: str
    start: float
    end: float
    note: str
    rater: str


def read_marks(path: Path, *, operation: str) -> list[Mark]:
    """The marks of one operation. Raises CalotError naming file, line, column and value."""
    try:
        text = read_text(path, encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CalotError(f"{path}: is not UTF-8 text ({error.reason}). Save it as CSV UTF-8.") from error
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    found = []
    try:
        absent = [name for name in COLUMNS[:5] if name not in (rows.fieldnames or ())]
        if absent:
            raise CalotError(f"{path}: column {absent[0]!r} is missing; the columns are {', '.join(COLUMNS)}.")
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            if (row["operation"] or "").strip() != operation:
                raise CalotError(f"{where}: of operation {row['operation']!r}, and this one is {operation!r}.")
            found.append(_mark(row, where=where))
    except csv.Error as error:
        raise CalotError(f"{path}: malformed CSV ({error}).") from error
    return found


def _mark(row: dict[str, str | None], *, where: str) -> Mark:
    for column, among in (("criterion", CRITERIA), ("verdict", VERDICTS)):
        if row[column] not in among:
            raise CalotError(f"{where}: {column} {row[column]!r}.{nearest_name(row[column] or '', among=among)}")
    times = []
    for column in ("start", "end"):
        try:
            times.append(float(row[column] or ""))
        except ValueError:
            times.append(math.nan)
    if not (0 <= times[0] <= times[1] < math.inf):
        raise CalotError(f"{where}: start {row['start']!r} and end {row['end']!r}: give seconds, the start first.")
    return Mark(
        criterion=str(row["criterion"]),
        verdict=str(row["verdict"]),
        start=times[0],
        end=times[1],
        note=row.get("note") or "",
        rater=row.get("rater") or "",
    )
