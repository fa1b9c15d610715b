"""The section on the feature-classification gap: AP by kind of features, and paired differences."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from calot.criteria import CRITERIA, label
from calot.report.effect_figures import criterion_rows, interval_dots
from calot.report.explaining.section import Block, Section, SectionView
from calot.report.interval_cells import IntervalCells
from calot.report.tables import Row, Table, columns, points
from calot.report.verdict import Reason
from calot.statistics.findings import Findings


@dataclass(frozen=True, kw_only=True)
class GapSection(Section):
    """Reads `scores` and `differences`."""

    name: str = "feature_gap"
    title: str = "The feature-classification gap"

    def view(self, found: Findings) -> SectionView:
        facts = found.facts
        text = (
            f"{facts['clips']:,} clips with a mask ({facts['human_masks']:,} human) of {facts['videos']} videos, of "
            f"{facts['clips_of_split']:,} clips. One classifier for all: logistic regression on standardised features, "
            "its penalty chosen inside the videos it is fitted on, whole videos left out; the run’s own head was "
            "fitted on train. Masks are read as areas, places and spreads of the four classes."
        )
        if facts["no_decoder"]:
            text += " This run has no segmentation decoder: there are no predicted masks."
        text += " Coverage of the intervals of differences was not simulated."
        return SectionView(
            reasons=[Reason("Gap:", one) for one in facts["sentences"]],
            blocks=[
                Block(text=text),
                Block(text=" ".join(facts["sentences"])),
                _scores(found.tables["scores"]),
                _differences(found.tables["differences"]),
            ],
        )


def _scores(scores: pl.DataFrame) -> Block:
    kinds = scores["features"].unique(maintain_order=True).to_list()
    series = {kind: criterion_rows(scores.filter(pl.col("features") == kind).to_dicts()) for kind in kinds}
    turned = {name: {kind: series[kind][name] for kind in kinds} for name in next(iter(series.values()))}
    cells = IntervalCells(digits=1, scale=100.0)
    rows = [Row(cells=(kind, *(cells(row) for row in series[kind].values()))) for kind in kinds]
    chances = [next(iter(held.values()))["chance"] for held in turned.values()]
    rows.append(Row(cells=("chance", *map(points, chances))))
    table = Table(title="AP in points", columns=columns("features", *turned), rows=rows, note=cells.note)
    charts = [
        interval_dots({name: held}, title=f"AP, {name}", reference=None, name=f"gap-{place}", scale=100.0)
        for place, (name, held) in enumerate(turned.items())
        if any(row["value"] is not None for row in held.values())
    ]
    return Block(heading="Average precision by kind of features", charts=charts, table=table)


def _differences(differences: pl.DataFrame) -> Block:
    cells, rows = IntervalCells(digits=1, scale=100.0), []
    pairs = list(dict.fromkeys(differences.select("features", "less").iter_rows()))
    for one, other in pairs:
        mine = differences.filter((pl.col("features") == one) & (pl.col("less") == other)).to_dicts()
        by = {row["criterion"]: row for row in mine}
        rows.append(Row(cells=(f"{one} − {other}", *(cells(by[c]) for c in (*CRITERIA, None)))))
    table = Table(
        title="Paired differences on the same clips, in points",
        columns=columns("", *map(label, CRITERIA), "all three"),
        rows=rows,
        note=cells.note,
    )
    return Block(heading="Paired differences", table=table)


SECTION = GapSection()
