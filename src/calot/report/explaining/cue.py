"""The section on a suspected cue: what the run makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calot.criteria import CRITERIA, label
from calot.report.effect_figures import criterion_rows
from calot.report.explaining.section import Block, Section, SectionView
from calot.report.interval_cells import IntervalCells, bounded
from calot.report.tables import Row, Table, columns
from calot.report.verdict import Reason
from calot.statistics.findings import Findings


@dataclass(frozen=True, kw_only=True)
class CueSection(Section):
    """Reads facts alone."""

    name: str = "cue"
    title: str = "A suspected cue"

    def view(self, found: Findings) -> SectionView:
        facts, drop = found.facts, found.facts["drop"]
        text = (
            f"{facts['clips']:,} clips of {facts['videos']} videos, of which {facts['showing']:,} show the cue on "
            "their labelled frame."
        )
        said = [Reason("Cue:", one) for one in facts["sentences"]]
        if drop is not None:
            said.append(Reason("These frames against its own:", _dropped(drop)))
        blocks = [Block(text=text), Block(text=" ".join(facts["sentences"])), _covering(facts), _ranks(facts)]
        return SectionView(reasons=said, blocks=blocks if drop is None else [*blocks, _drop_table(drop)])


def _covering(facts: Mapping[str, Any]) -> Block:
    means, cells = facts["means"], IntervalCells(digits=2)
    rows = [Row(cells=("area of the cue, %", cells(means["area"], digits=3, scale=100)))]
    if facts["attention"]:
        rows.append(Row(cells=("pooling’s attention on it, %", cells(means["mass"], scale=100))))
        rows.append(Row(cells=("attention over area", cells(means["enrichment"]))))
    for c in CRITERIA:
        rows.append(Row(cells=(f"{label(c)}: logit moved by covering the cue", cells(means[f"effect_{c}"]))))
        rows.append(Row(cells=(f"{label(c)}: by covering as many pixels elsewhere", cells(means[f"elsewhere_{c}"]))))
        rows.append(Row(cells=(f"{label(c)}: difference", cells(means[f"more_{c}"]))))
    note = cells.note
    if not facts["attention"]:
        note = f"{facts['pooling']} has no attention map: nothing can be said of its mass. {note}"
    text = "Where the cue is, the clip’s own blurred content is shown; elsewhere: the same pixels half a frame away."
    table = Table(title="On the cue", columns=columns("", "mean over clips"), rows=rows, sortable=False, note=note)
    return Block(heading="Attention on the cue, and covering it", text=text, table=table)


def _ranks(facts: Mapping[str, Any]) -> Block:
    cells, rows = IntervalCells(digits=1, scale=100.0), []
    for one in facts["followed"]:
        held = [cells(one[name]) for name in ("agreeing", "contradicting", "difference")]
        rows.append(Row(cells=(label(one["criterion"]), f"{100 * one['agreement']:.0f}", *held)))
    table = Table(
        title="Pairs of a positive and a negative clip that scores rank rightly, %",
        columns=columns("", "clips on which the cue says the label, %", "cue agrees", "cue contradicts", "difference"),
        rows=rows,
        note=cells.note,
    )
    text = (
        "One that follows the cue fails where it contradicts. No proof by itself: where videos differ in how often "
        "they show it, a run that never saw it can differ here, too. Hold it against a run trained without the cue."
    )
    return Block(heading="Where the cue agrees, and where it contradicts", text=text, table=table)


def _dropped(drop: Mapping[str, Any]) -> str:
    whole = next(row for row in drop["differences"] if row["criterion"] is None)
    if whole["value"] is not None:
        return f"mAP changes by {bounded(whole, digits=1, scale=100)} points on the same clips."
    parts = [
        f"{label(row['criterion'])} {bounded(row, digits=1, scale=100)}"
        for row in drop["differences"]
        if row["value"] is not None
    ]
    return f"AP changes by {'; '.join(parts)} points on the same clips." if parts else "no AP is defined."


def _drop_table(drop: Mapping[str, Any]) -> Block:
    cells = IntervalCells(digits=1, scale=100.0)
    kinds = list(dict.fromkeys(row["features"] for row in drop["scores"]))
    series = {kind: criterion_rows([r for r in drop["scores"] if r["features"] == kind]) for kind in kinds}
    differences = criterion_rows(drop["differences"])
    rows = [
        Row(cells=(name, *(cells(series[kind][name]) for kind in kinds), cells(differences[name])))
        for name in differences
    ]
    table = Table(
        title="AP in points on the same clips and labels, with other frames",
        columns=columns("", *kinds, "difference"),
        rows=rows,
        note=cells.note,
    )
    text = "The run’s own predictions of these clips were made from other frames (another folder of the same manifest)."
    return Block(heading="The same clips, other frames", text=text, table=table)


SECTION = CueSection()
