"""Which criteria the run detects, on the page: a sentence for each, intervals beside chance, and who is mistaken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from calot.criteria import CRITERIA, label
from calot.report.explaining.figures import counts_grid
from calot.report.explaining.pooling import WHAT, bins_panel, means_table
from calot.report.explaining.section import Block, Section, SectionView
from calot.report.forest import Estimate, forest
from calot.report.tables import KEYS, Row, Table, columns, points, ranged
from calot.report.verdict import Reason, spoken_list
from calot.statistics.findings import Findings
from calot.statistics.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class CriteriaSection(Section):
    """The criterion comparison, first on the page."""

    name: str = "criteria"
    title: str = "Criterion by criterion"

    def view(self, found: Findings) -> SectionView:
        rows: list[dict[str, Any]] = found.facts["detections"]
        blocks = [
            Block(
                text="On clips that show exactly one criterion, does its own score rank its clips above those that "
                "show another one? On all clips a criterion that cannot be seen still scores above chance, because the "
                "others come with it; here they point the wrong way.",
                forest=forest(_estimates(rows), title="AP on clips that show exactly one criterion, points"),
                caption="Dot: AP. Bar: 95 % interval over videos. Upright tick: chance, the share of these clips that "
                "show the criterion.",
                table=_detection_table(rows),
                note=f"A criterion is called undetectable where the interval of AP minus chance ends below "
                f"{100 * found.facts['margin']:g} points, and detected where it begins above 0; in every other case "
                "the data do not decide.",
            ),
            Block(heading="Which criterion scores highest", charts=_confusion(found), caption=_CAPTION),
        ]
        names = {name: label(name) for name in CRITERIA}
        if "pooling" in found.tables:
            pooled = found.tables["pooling"]
            for tap in pooled["tap"].unique(maintain_order=True).to_list():
                held = pooled.filter(pl.col("tap") == tap)
                chart = bins_panel(held, name=f"criteria-{tap}", title="Weight by temporal bin", names=names)
                table = means_table(held, title="The pooling’s weights by criterion", names=names)
                caption = "Clips that show one criterion alone; 95 % intervals over videos."
                blocks.append(Block(charts=[chart], caption=caption, table=table, note=WHAT))
        elif found.facts["without_pooling"]:
            blocks.append(Block(note=found.facts["without_pooling"]))
        return SectionView(headline=_headline(found), reasons=[_reason(row) for row in rows], blocks=blocks)


_CAPTION = (
    "Rows: what a clip shows. Columns: the criterion with the highest score, as the study counted it, and with the "
    "highest rank among all clips of the split, which prevalence and loss weights do not tilt."
)


def _headline(found: Findings) -> str:
    blind: list[str] = found.facts["blind"]
    if not blind:
        return "No criterion is shown to be undetectable."
    verb = "is" if len(blind) == 1 else "are"
    return f"{spoken_list([label(name) for name in blind])} {verb} undetectable for this run."


def _reason(row: Mapping[str, Any]) -> Reason:
    lead = label(row["criterion"])
    text = row["says"].removeprefix(lead).lstrip(": ")
    return Reason(lead, f"{text}, on {row['clips']} of {row['single']} clips that show exactly one.")


def _interval(row: Mapping[str, Any]) -> Interval:
    return Interval(value=row["value"], low=row["low"], high=row["high"], reason=row.get("reason"))


def _estimates(rows: list[dict[str, Any]]) -> list[Estimate]:
    return [
        Estimate(
            name=label(row["criterion"]),
            interval=_interval(row["ap"]),
            chance=row["chance"],
            criterion=row["criterion"],
            strong=row["standing"] == "undetectable",
        )
        for row in rows
    ]


def _detection_table(rows: list[dict[str, Any]]) -> Table:
    lines = [
        Row(
            key=KEYS[row["criterion"]],
            strong=row["standing"] == "undetectable",
            cells=(
                label(row["criterion"]),
                f"{row['clips']} of {row['videos']}",
                ranged(_interval(row["ap"]), digits=1, scale=100.0),
                points(row["chance"]),
                ranged(_interval(row["lift"]), digits=1, scale=100.0),
                ranged(_interval(row["among_all"]), digits=1, scale=100.0),
                points(row["chance_among_all"]),
            ),
        )
        for row in rows
    ]
    heads = ("clips of videos", "AP", "chance", "AP minus chance", "AP, all clips", "chance, all clips")
    reasons = dict.fromkeys(r for row in rows if (r := row["lift"].get("reason")))
    note = f"No interval: {'; '.join(reasons)}." if reasons else ""
    title = "Detection on clips that show exactly one criterion, points"
    return Table(title=title, columns=columns("criterion", *heads), rows=lines, sortable=False, note=note)


def _confusion(found: Findings) -> list[Any]:
    table, size, drawn = found.tables["confusion"], len(CRITERIA), []
    for column, title in (("clips", "Highest score"), ("clips_by_rank", "Highest rank")):
        counts = np.asarray(table[column].to_numpy()).reshape(size, size)
        names = [f"C{k + 1}" for k in range(size)]
        drawn.append(
            counts_grid(
                counts, title=title, name=f"confusion-{column}", down="shown", across=title.lower(), names=names
            )
        )
    return drawn


SECTION = CriteriaSection()
