"""Figures by criterion, one row per quantity, each with its interval over videos: narrow enough for a phone."""

from __future__ import annotations

from collections.abc import Mapping

from calot.criteria import CRITERIA, label
from calot.report.tables import Cell, Row, Table, Undefined, columns, number, plain_reason, ranged
from calot.statistics.ceiling import RaterCeiling
from calot.statistics.frame_sums import RATES
from calot.statistics.intervals import Interval
from calot.statistics.metrics import sigmoid
from calot.statistics.operations import OperationRates
from calot.statistics.summary import CriterionIntervals, Summary

NAMES = {"ppv": "PPV", "npv": "NPV", "f1": "F1", "balanced_accuracy": "balanced accuracy"}
Quantity = Mapping[str, Interval | Cell]


def calibration_table(summary: Summary, *, split: str) -> Table:
    """Brier score and skill against majority and rater mean, ECE, slope and intercept."""
    held = {name: item.intervals for name, item in summary.criteria.items()}
    no_means = Interval(value=None, low=None, high=None, reason="no rater means")
    soft = {name: item.brier_soft for name, item in held.items()}
    rows: dict[str, Quantity] = {
        "Brier": {name: item.brier.value for name, item in held.items()},
        "skill": {name: item.brier.skill for name, item in held.items()},
        "Brier, rater mean": {name: item.value if item else no_means for name, item in soft.items()},
        "skill, rater mean": {name: item.skill if item else no_means for name, item in soft.items()},
        "ECE, debiased": {name: item.ece.debiased for name, item in held.items()},
        "ECE, plain": {name: number(item.ece.plain) for name, item in held.items()},
        "ECE of a perfect model": {name: _perfect(item) for name, item in held.items()},
        "slope": {name: item.slope for name, item in held.items()},
        "intercept": {name: item.intercept for name, item in held.items()},
    }
    return criterion_table(f"Calibration, {split} split", rows=rows, digits={"slope": 2, "intercept": 2})


def _perfect(item: CriterionIntervals) -> Cell:
    return number(item.ece.perfect, reason="")


def decisions_table(summary: Summary, *, split: str) -> Table:
    """Decisions at the thresholds frozen on val, which maximise F1 there."""
    rows: dict[str, Quantity] = {"threshold": {}}
    none = Interval(value=None, low=None, high=None, reason="no positive on val to choose a threshold from")
    for name, item in summary.criteria.items():
        made = item.decisions
        cell = Undefined("no positive on val") if made is None else number(float(sigmoid(made.threshold)))
        rows["threshold"] = {**rows["threshold"], name: cell}
    for rate in RATES:
        rows[NAMES.get(rate, rate)] = {n: item.intervals.rates.get(rate, none) for n, item in summary.criteria.items()}
    return criterion_table(f"Decisions, {split} split, at thresholds frozen on val", rows=rows)


def operations_table(rates: Mapping[str, OperationRates], *, split: str) -> Table:
    """Flips, false alarms and detection over all operations of a split."""
    names = {
        "flips_per_minute": "flips per minute",
        "false_alarms_per_hour": "false alarms per hour",
        "detected": "operations detected",
        "detection_seconds": "mean time to detection, s",
    }
    rows = {shown: {c: getattr(item, name) for c, item in rates.items()} for name, shown in names.items()}
    digits = {
        "flips per minute": 2,
        "false alarms per hour": 1,
        "operations detected": 3,
        "mean time to detection, s": 1,
    }
    return criterion_table(f"Over all operations, {split} split", rows=rows, digits=digits)


def ceiling_table(ceiling: RaterCeiling, *, split: str) -> Table | None:
    """The other raters and the model on single raters' votes, in points; None without several raters."""
    if ceiling.map is None:
        return None
    items = {**ceiling.ap, "mAP": ceiling.map}
    rows = {
        "other raters": {name: item.ceiling for name, item in items.items()},
        "model": {name: item.model for name, item in items.items()},
        "model minus raters": {name: item.difference for name, item in items.items()},
    }
    title = f"Rater ceiling, {ceiling.raters} raters, {split} split: AP in points on single raters\u2019 votes"
    return criterion_table(title, rows=rows, digits=dict.fromkeys(rows, 1), scale=100.0, last="mAP")


def criterion_table(
    title: str,
    *,
    rows: Mapping[str, Quantity],
    digits: Mapping[str, int] | None = None,
    scale: float = 1.0,
    last: str | None = None,
) -> Table:
    """Rows of quantities by criterion; what is undefined, and which interval, is said once per reason beneath."""
    keys = [*CRITERIA, *([last] if last else [])]
    shown = []
    for name, items in rows.items():
        cells = (_cell(items[key], digits=(digits or {}).get(name, 3), scale=scale) for key in keys)
        shown.append(Row(cells=(name, *cells)))
    heads = (*(label(name) for name in CRITERIA), *([last] if last else []))
    return Table(title=title, columns=columns("", *heads), rows=shown, sortable=False, note=_note(rows))


def _cell(item: Interval | Cell, *, digits: int, scale: float) -> Cell:
    return ranged(item, digits=digits, scale=scale) if isinstance(item, Interval) else item


def _note(rows: Mapping[str, Quantity]) -> str:
    said: dict[str, list[str]] = {}
    for name, items in rows.items():
        for key, item in items.items():
            if isinstance(item, Interval) and item.low is None and item.reason:
                letter = label(key).split()[0] if key in CRITERIA else key
                said.setdefault(plain_reason(item.reason), []).append(f"{name} {letter}")
    return " ".join(f"No interval for {', '.join(names)}: {reason}." for reason, names in said.items())
