"""Operation by operation, as tables: whole-operation decisions first, then one table per criterion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calot.criteria import CRITERIA, label
from calot.report.criterion_tables import operations_table
from calot.report.tables import (
    Cell,
    Row,
    Table,
    Undefined,
    columns,
    count,
    in_sentence,
    number,
    percent,
    points,
    ranged,
)
from calot.report.timelines import clock
from calot.statistics.calibration import Thresholds
from calot.statistics.intervals import Interval
from calot.statistics.operations import Operations
from calot.statistics.predictions import Predictions
from calot.statistics.videos import CriterionInVideo, VideoTable, per_video

#: Seconds for which all three criteria must hold, beside one frame.
HELD = (10.0, 30.0)
_HELD_ROWS = ("called", "called wrongly", "sensitivity", "specificity", "PPV", "NPV")


@dataclass(frozen=True, kw_only=True)
class VideosView:
    """A split's operations: all of them in one table and one sentence, then each by itself."""

    overall: Table
    held: Table
    sentence: str
    each: Sequence[Table]


def videos_view(predictions: Predictions, *, thresholds: Thresholds) -> VideosView:
    """Of the first seed."""
    first = predictions.by_seed()[0]
    found = per_video(first, thresholds=thresholds)
    longer = [per_video(first, thresholds=thresholds, held_seconds=seconds) for seconds in HELD]
    return VideosView(
        overall=operations_table(found.rates, split=predictions.split),
        held=_held_table([found, *longer], split=predictions.split),
        sentence=_sentence(found.operations),
        each=[_operations_table(found), *(_criterion_table(found, criterion=name) for name in CRITERIA)],
    )


def _held_table(found: Sequence[VideoTable], *, split: str) -> Table:
    """The decision on whole operations, for each time that all three criteria must hold."""
    columned: list[tuple[Cell, ...]] = []
    for item in found:
        made = item.operations
        if made is None:
            why = "frame rate unknown" if item.frames_per_second is None else "a criterion has no threshold"
            columned.append((Undefined(why), *(Undefined() for _ in _HELD_ROWS[1:])))
            continue
        held, rest = made.true_positives + made.false_negatives, made.true_negatives + made.false_positives
        rates = (ranged(rate, digits=2) for rate in (made.sensitivity, made.specificity, made.ppv, made.npv))
        columned.append((f"{made.true_positives} of {held}", f"{made.false_positives} of {rest}", *rates))
    rows = [Row(cells=(name, *cells)) for name, *cells in zip(_HELD_ROWS, *columned, strict=True)]
    names = (f"for {item.held_seconds:g} s" if item.held_seconds else "in one frame" for item in found)
    title = f"Decision on whole operations, {split} split: all three criteria held"
    return Table(title=title, columns=columns("", *names), rows=rows, sortable=False)


def _operations_table(found: VideoTable) -> Table:
    rows = []
    for row in found.rows:
        called: Cell = Undefined("no threshold") if row.called is None else _yes(row.called)
        positives = (count(row.criteria[name].positives) for name in CRITERIA)
        length: Cell = Undefined("frame rate unknown") if row.seconds is None else clock(row.seconds)
        cells = (row.video, length, count(row.frames), *positives, _yes(bool(row.achieved)), called)
        rows.append(Row(cells=cells, strong=row.called is not None and row.called != row.achieved))
    letters = (f"{label(name).split()[0]} positive" for name in CRITERIA)
    names = columns("video", "length", "scored frames", *letters, "all three held", "called so")
    return Table(title="Whole operations (bold: decided wrongly)", columns=names, rows=rows)


def _criterion_table(found: VideoTable, *, criterion: str) -> Table:
    rows = []
    for row in found.rows:
        item = row.criteria[criterion]
        cells = (
            row.video,
            percent(item.prevalence),
            points(item.ap, reason="no positive"),
            number(item.flips_per_minute, digits=2),
            number(item.false_alarms_per_hour, digits=1),
            _detection(item),
        )
        rows.append(Row(cells=cells))
    names = columns("video", "prevalence", "AP", "flips per minute", "false alarms per hour", "time to detection")
    return Table(title=label(criterion), columns=names, rows=rows)


def _detection(item: CriterionInVideo) -> Cell:
    if item.detection_seconds is not None:
        return clock(item.detection_seconds)
    return Undefined("no positive" if item.positives == 0 else "never called")


def _sentence(found: Operations | None) -> str:
    if found is None:
        return "Whole operations are undefined: a criterion has no threshold."
    held, rest = found.true_positives + found.false_negatives, found.true_negatives + found.false_positives
    names = {"sensitivity": "Sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV"}
    rates = (f"{shown} {_share(getattr(found, name))}" for name, shown in names.items())
    return (
        f"Operations in which all three criteria held in one frame: {found.true_positives} of {held} called; of the "
        f"{rest} others {found.false_positives} called too. {'; '.join(rates)}."
    )


def _share(item: Interval) -> str:
    return f"undefined: {item.reason}" if item.value is None else in_sentence(ranged(item))


def _yes(value: bool) -> str:
    return "yes" if value else "no"
