"""Operation by operation, as tables: whole-operation decisions first, then one table per criterion."""

from __future__ import annotations

from calot.criteria import CRITERIA, label
from calot.report.tables import Cell, Row, Table, Undefined, columns, count, number, percent, points
from calot.report.timelines import clock
from calot.statistics.calibration import Thresholds
from calot.statistics.operations import Operations
from calot.statistics.predictions import Predictions
from calot.statistics.videos import CriterionInVideo, VideoTable, per_video


def video_tables(predictions: Predictions, *, thresholds: Thresholds) -> tuple[list[Table], str]:
    """The tables of a split's first seed, and one sentence on whole operations."""
    found = per_video(predictions.by_seed()[0], thresholds=thresholds)
    tables = [_operations_table(found), *(_criterion_table(found, criterion=name) for name in CRITERIA)]
    return tables, _sentence(found.operations)


def _operations_table(found: VideoTable) -> Table:
    rows = []
    for row in found.rows:
        called: Cell = Undefined("no threshold") if row.called is None else _yes(row.called)
        positives = (count(row.criteria[name].positives) for name in CRITERIA)
        length: Cell = Undefined("frame rate unknown") if row.seconds is None else clock(row.seconds)
        cells = (row.video, length, count(row.frames), *positives, _yes(row.achieved), called)
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
    return (
        f"Operations in which all three criteria held in one frame: {found.true_positives} of {held} called; of the "
        f"{rest} others {found.false_positives} called too."
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
