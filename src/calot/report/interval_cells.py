"""Cells of tables from rows of `value, low, high, reason`, whose reasons stand once in the table's note."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calot.report.tables import Cell, number, ranged
from calot.statistics.intervals import Interval


class IntervalCells:
    """Makes the cells of one table and remembers why some have no interval."""

    def __init__(self, *, digits: int = 3, scale: float = 1.0) -> None:
        self.digits, self.scale = digits, scale
        self.reasons: dict[str, None] = {}

    def __call__(self, row: Mapping[str, Any] | None, *, digits: int | None = None, scale: float | None = None) -> Cell:
        """The value with its interval beneath it."""
        if row is None:
            return number(None)
        if row["low"] is None and row.get("reason"):
            self.reasons[row["reason"]] = None
        found = Interval(value=row["value"], low=row["low"], high=row["high"], reason=row.get("reason"))
        return ranged(
            found, digits=self.digits if digits is None else digits, scale=self.scale if scale is None else scale
        )

    @property
    def note(self) -> str:
        """The reasons, as a sentence; empty where there is none."""
        return f"No interval or no value: {'; '.join(self.reasons)}." if self.reasons else ""


def bounded(row: Mapping[str, Any], *, digits: int = 2, scale: float = 1.0) -> str:
    """`1.23 (0.98 to 1.51)`, or the reason why there is none."""
    if row["value"] is None:
        return row.get("reason") or "undefined"
    value = f"{scale * row['value']:.{digits}f}"
    if row["low"] is None:
        return f"{value} (no interval)"
    return f"{value} ({scale * row['low']:.{digits}f} to {scale * row['high']:.{digits}f})"
