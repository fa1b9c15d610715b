"""Numbers as text, and the tables of the page. An undefined value carries its reason; it is never shown as 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from calot.criteria import CRITERIA, label
from calot.statistics.intervals import Interval
from calot.statistics.rounding import rounded

KEYS = dict(zip(CRITERIA, ("c1", "c2", "c3"), strict=True))


@dataclass(frozen=True)
class Undefined:
    """A cell without a value; the page prints `undefined: reason`."""

    reason: str = ""


@dataclass(frozen=True)
class Withheld:
    """A cell whose value is not a result; the page prints why in its place."""

    failed: str


@dataclass(frozen=True)
class Ranged:
    """A value with its 95 % interval beneath it; `no interval` where there is none."""

    value: str
    interval: str


Cell = str | Undefined | Withheld | Ranged


@dataclass(frozen=True, kw_only=True)
class Column:
    """A heading and how its cells align."""

    name: str
    number: bool = True
    wrap: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """The cells of one line."""

    cells: Sequence[Cell]
    strong: bool = False
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as the page shows it; `sortable` where a column holds one quantity. `note` stands beneath it."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row] = field(default_factory=tuple)
    sortable: bool = True
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One line of a header; `wide` takes a whole line, `code` is set in the monospaced face."""

    name: str
    text: str
    wide: bool = False
    code: bool = False


def number(value: float | None, *, digits: int = 3, reason: str | None = None, sign: bool = False) -> Cell:
    """`0.412` (`+0.412` with `sign`), or undefined with its reason for None and NaN."""
    if value is None or not math.isfinite(value):
        return Undefined(plain_reason(reason) if reason else "")
    return rounded(value, digits=digits, sign=sign).replace("-", "\N{MINUS SIGN}")


def ranged(interval: Interval, *, digits: int = 3, scale: float = 1.0) -> Cell:
    """A value with its interval beneath it, both with `digits`; an undefined value says why in the table's note."""
    value = number(None if interval.value is None else scale * interval.value, digits=digits, reason="")
    if not isinstance(value, str):
        return Undefined()
    if interval.low is None or interval.high is None:
        return Ranged(value, "no interval")
    bounds = (in_sentence(number(scale * end, digits=digits)) for end in (interval.low, interval.high))
    return Ranged(value, " to ".join(bounds))


def points(value: float | None, *, reason: str | None = None, sign: bool = False) -> Cell:
    """An AP or mAP in points, as the terminal prints it: `41.20`, `+1.40` with `sign`, or undefined."""
    return number(None if value is None else 100 * value, digits=2, reason=reason, sign=sign)


def percent(value: float | None, *, digits: int = 1, reason: str | None = None) -> Cell:
    """`15.2 %`, or undefined."""
    if value is None or not math.isfinite(value):
        return Undefined(reason or "")
    return f"{100 * value:.{digits}f} %"


def plain_reason(reason: str | None) -> str:
    """A statistic's reason with each criterion by its shown name."""
    text = reason or "the predictions do not define it"
    for name in CRITERIA:
        text = text.replace(name, label(name))
    return text


def bounds(interval: Interval) -> Cell:
    """`31.8 to 50.7` in points, or undefined with its reason."""
    return interval_text(interval.low, interval.high, reason=interval.reason)


def interval_text(low: float | None, high: float | None, *, reason: str | None = None, sign: bool = False) -> Cell:
    """Two bounds in points, or undefined with the reason."""
    if low is None or high is None:
        return Undefined(plain_reason(reason) if reason else "")
    return " to ".join(in_sentence(number(100 * bound, digits=1, sign=sign)) for bound in (low, high))


def in_sentence(cell: Cell) -> str:
    """A cell inside a sentence."""
    if isinstance(cell, Undefined):
        return f"undefined: {cell.reason}" if cell.reason else "undefined"
    if isinstance(cell, Ranged):
        return f"{cell.value} ({cell.interval})"
    return cell.failed if isinstance(cell, Withheld) else cell


def count(value: Any) -> Cell:
    """`12,372`, or undefined for None."""
    return Undefined() if value is None else f"{int(value):,}"


def signed(value: float | None) -> str:
    """`+3.10 points`, `−1.20 points` or `undefined`."""
    cell = points(value, sign=True)
    return f"{cell} points" if isinstance(cell, str) else in_sentence(cell)


def columns(*names: str, text: Sequence[str] = ()) -> tuple[Column, ...]:
    """Columns by name; the first and those in `text` are left-aligned words, the others numbers."""
    return tuple(
        Column(name=name, number=place > 0 and name not in text, wrap=name in text) for place, name in enumerate(names)
    )


def value_text(value: Any) -> str:
    """A field's value as a person writes it: `FocalLoss(gamma=2.0)`, `none`, `1e-4`."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{name}={value_text(part)}" for name, part in value.items() if name != "_type")
        name = str(value.get("_type", ""))
        short = name.rpartition(".")[2] if name.startswith("calot.") else name
        return f"{short}({inner})" if "_type" in value else f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(part) for part in value) + "]"
    return "none" if value is None else str(value)


def difference_table(difference: Sequence[Mapping[str, Any]], *, baseline: str, name: str = "this run") -> Table:
    """Each declared field with the baseline's value and this run's."""
    rows = [
        Row(cells=(str(item.get("field", "")), value_text(item.get("baseline")), value_text(item.get("value"))))
        for item in difference
    ]
    names = columns("field", baseline, name, text=(baseline, name))
    return Table(title=f"Declared difference of {name} from {baseline}", columns=names, rows=rows)


def split_table(splits: Mapping[str, Mapping[str, Any]]) -> Table:
    """Sizes of each split, and the shares of scored frames where none or all of the criteria hold."""
    rows = []
    for split, facts in splits.items():
        sizes = (count(facts.get(name)) for name in ("videos", "frames", "keyframes", "scored"))
        shares = (percent(facts.get(name)) for name in ("all_negative", "all_positive"))
        ceiling = (facts.get("rater_agreement") or {}).get("leave_one_rater_out_map")
        rows.append(Row(cells=(split, *sizes, *shares, points(ceiling, reason="no figure for every rater"))))
    heads = ("videos", "frames", "keyframes", "scored", "none holds", "all three hold", "rater by raters, mAP")
    return Table(title="Splits", columns=columns("split", *heads), rows=rows)


def class_table(splits: Mapping[str, Mapping[str, Any]]) -> Table:
    """Share of positives among the scored frames of each criterion and split, and negatives to one positive."""
    rows = []
    for criterion in CRITERIA:
        cells: list[Cell] = [label(criterion)]
        for facts in splits.values():
            cells.append(percent((facts.get("positives") or {}).get(criterion)))
            ratio = (facts.get("negative_per_positive") or {}).get(criterion)
            cells.append(number(ratio, digits=1, reason="no positive"))
        rows.append(Row(cells=cells, key=KEYS[criterion]))
    heads = [head for split in splits for head in (f"{split}, positive", "negatives to one")]
    return Table(title="Positive frames per criterion", columns=columns("criterion", *heads), rows=rows)


def masks_table(splits: Mapping[str, Mapping[str, Any]]) -> Table:
    """Masks by source, and the share of clips that have one, with and without the synthetic ones."""
    rows = []
    for split, facts in splits.items():
        by_source = ", ".join(f"{source} {number:,}" for source, number in (facts.get("masks") or {}).items()) or "none"
        coverage = facts.get("coverage") or {}
        shares = (percent(coverage.get(name)) for name in ("all", "without synthetic"))
        rows.append(Row(cells=(split, count(facts.get("clips")), by_source, *shares)))
    heads = ("clips", "masks by source", "clips with one", "without synthetic")
    return Table(title="Masks", columns=columns("split", *heads, text=("masks by source",)), rows=rows)
