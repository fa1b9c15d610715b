"""Labels against their raters: on a keyframe each value is the mean of three votes."""

from __future__ import annotations

from calot.data.endoscapes.reader import METADATA
from calot.data.manifest import MEAN_TOLERANCE
from calot.data.verify.finding import Finding, Found
from calot.data.verify.table import AGAIN, LETTERS, LenientTable, TableRow

_THIRDS = (0.0, 1 / 3, 2 / 3, 1.0)


def check_labels(table: LenientTable) -> Found:
    """Values that are not a mean of three raters, on keyframes and in the fills between them."""
    findings: list[Finding] = []
    for row in table.rows:
        for place, (letter, value) in enumerate(zip(LETTERS, row.values, strict=True)):
            if value is None:
                continue
            votes = [vote[place] for vote in row.votes if vote is not None]
            mean = sum(votes) / len(votes) if len(votes) == len(row.votes) else None
            if mean is not None and abs(mean - value) > MEAN_TOLERANCE:
                message = f"{letter} is {value:g}, its raters {votes} have the mean {mean:.3g}"
                findings.append(_at(row, message))
            elif mean is None and min(abs(value - third) for third in _THIRDS) > MEAN_TOLERANCE:
                findings.append(_at(row, f"{letter} is {value:g}; need 0, 1/3, 2/3 or 1, a mean of three raters"))
    keyframes = sum(row.keyframe is True for row in table.rows)
    return Found(findings=tuple(findings), counts=(("frames", len(table.rows)), ("keyframes", keyframes)))


def _at(row: TableRow, message: str) -> Finding:
    return Finding(check="labels", file=METADATA, row=row.line, message=message, remedy=AGAIN)
