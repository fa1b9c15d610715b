"""The sample table on the page: sortable, one line per clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calot.criteria import CRITERIA
from calot.report.explaining.section import Block, Section, SectionView
from calot.report.tables import Cell, Row, Table, columns, number
from calot.report.verdict import Reason
from calot.statistics.findings import Findings

#: Lines on the page; the CSV has them all.
SHOWN = 400


@dataclass(frozen=True, kw_only=True)
class SampleSection(Section):
    """Clips with the fewest right first."""

    name: str = "samples"
    title: str = "Sample table"

    def view(self, found: Findings) -> SectionView:
        rows, facts = found.tables["clips"], found.facts
        counts = ", ".join(f"{clips:,} with {n}" for n, clips in facts["right"].items())
        text = (
            f"{facts['clips']:,} clips by how many of 3 are right at a probability of {facts['threshold']:g}: {counts}."
        )
        shown = rows.sort(["right", "video", "frame"]).head(SHOWN)
        letters = [f"C{k + 1}" for k in range(len(CRITERIA))]
        heads = [head for c in letters for head in (f"{c} truth", f"{c} raters", f"{c} score")]
        table = Table(
            title="Clips, fewest right first",
            columns=columns("clip", *heads, "right of 3"),
            rows=[Row(cells=_cells(row)) for row in shown.to_dicts()],
            note="Truth: the majority of raters; raters: their mean; score: the run’s probability."
            + (f" The first {SHOWN:,}; samples_clips.csv has all." if len(rows) > SHOWN else ""),
        )
        return SectionView(reasons=[Reason("Clips.", text)], blocks=[Block(text=text), Block(table=table)])


def _cells(row: Mapping[str, Any]) -> list[Cell]:
    cells: list[Cell] = [row["clip"]]
    for criterion in CRITERIA:
        cells += [str(row[f"label_{criterion}"]), number(row[f"soft_{criterion}"], digits=2)]
        cells.append(number(row[f"score_{criterion}"], digits=3))
    return [*cells, str(row["right"])]


SECTION = SampleSection()
