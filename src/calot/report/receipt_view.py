"""The treatment receipt as the page shows it: its checks in a table, what they measured folded away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from calot.provenance.receipt import CHECKS, Receipt, ReceiptCheck
from calot.provenance.treatment import Treatment
from calot.report.observed import Small, small_charts
from calot.report.tables import Column, Row, Table

_MARKS = {"passed": "holds", "failed": "failed", "not applicable": "not applicable", "pending": "not made"}
_NEVER_MADE = "the receipt does not name this check"


@dataclass(frozen=True, kw_only=True)
class CheckLine:
    """One check: its place, what it holds, how it ended and why; `mark` is the word shown for `status`."""

    number: int
    name: str
    holds: str
    status: str
    mark: str
    why: str


@dataclass(frozen=True, kw_only=True)
class ReceiptView:
    """The receipt of one run; `summary` counts the checks, `evidence` holds what they measured."""

    invalid: bool
    summary: str
    lines: Sequence[CheckLine]
    evidence: Sequence[Table]
    observed: Sequence[Small]


def receipt_view(receipt: Receipt, *, treatment: Treatment) -> ReceiptView:
    """All checks; one that the file does not name is shown as not made."""
    named = {check.name: check for check in receipt.checks}
    checks = [named.get(name, ReceiptCheck(name=name, status="pending", why=_NEVER_MADE)) for name in CHECKS]
    lines = [
        CheckLine(
            number=number,
            name=check.name,
            holds=CHECKS[check.name],
            status=check.status.replace(" ", "-"),
            mark=_MARKS[check.status],
            why=check.why,
        )
        for number, check in enumerate(checks, start=1)
    ]
    against = f", against {receipt.baseline}" if receipt.baseline else ""
    counts = {mark: sum(line.mark == mark for line in lines) for mark in _MARKS.values()}
    shown = [f"{count} {'hold' if mark == 'holds' else mark}" for mark, count in counts.items() if count]
    return ReceiptView(
        invalid=treatment.invalid,
        summary=f"{len(CHECKS)} checks that what this run declares took effect{against}: {', '.join(shown)}.",
        lines=lines,
        evidence=[table for check in checks if check.name != "observed" for table in evidence_tables(check)],
        observed=small_charts(receipt),
    )


def evidence_tables(check: ReceiptCheck) -> list[Table]:
    """What a check measured: a table for each list and each part of it, and one for the single figures."""
    if check.evidence is None:
        return []
    place = list(CHECKS).index(check.name) + 1
    tables, single = [], {}
    for name, value in _parts(check.evidence).items():
        title = f"{place} {check.name}: {name}"
        if is_dataclass(value):
            tables.append(_pairs(_parts(value), title=title))
        elif isinstance(value, tuple) and value and all(is_dataclass(part) for part in value):
            tables.append(_records([_parts(part) for part in value], title=title))
        else:
            single[name] = value
    return [_pairs(single, title=f"{place} {check.name}"), *tables] if single else tables


def _parts(value: Any) -> dict[str, Any]:
    """A dataclass's fields, in words."""
    return {f.name.replace("_", " "): getattr(value, f.name) for f in fields(value)}


def _pairs(values: Mapping[str, Any], *, title: str) -> Table:
    rows = [Row(cells=(name, _figure(value))) for name, value in values.items()]
    return Table(title=title, columns=(_words("figure"), _words("value")), rows=rows)


def _records(records: Sequence[Mapping[str, Any]], *, title: str) -> Table:
    rows = [Row(cells=tuple(_figure(value) for value in record.values())) for record in records]
    return Table(title=title, columns=tuple(_words(name) for name in records[0]), rows=rows)


def _words(name: str) -> Column:
    return Column(name=name, number=False, wrap=True)


def _figure(value: Any) -> str:
    """A measured value in words: `none`, `yes`, `66,432`, `0.4255`, `gradient 0.03, logits 0.2`."""
    if value is None:
        return "not reported"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if is_dataclass(value):
        return " ".join(_figure(part) for part in _parts(value).values())
    if isinstance(value, tuple):
        return ", ".join(_figure(part) for part in value) or "none"
    return str(value)
