"""The section on occlusion and integrated gradients: where effects lie, whether they hold, and pictures of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from calot.criteria import CRITERIA, label
from calot.report.effect_figures import criterion_rows, curve_panel, interval_dots, signed_over
from calot.report.explaining.section import Block, Section, SectionView
from calot.report.interval_cells import IntervalCells, bounded
from calot.report.sheets import Sheet, jpeg_address, picture_rows
from calot.report.tables import Row, Table, columns, number
from calot.report.verdict import Reason
from calot.statistics.findings import Findings
from calot.statistics.occlusion import ANATOMY, CUE, GRADIENTS, METHODS, OCCLUSION, RANDOM_ORDER

_BY = {"blur": "the clip’s own blurred content", "black": "black"}


@dataclass(frozen=True, kw_only=True)
class OcclusionSection(Section):
    """Reads `summary`, `curves` and the kept maps."""

    name: str = "occlusion"
    title: str = "Occlusion and integrated gradients"

    def view(self, found: Findings) -> SectionView:
        facts, summary = found.facts, found.tables["summary"]
        shown = f"{len(facts['clips'])} clips of {facts['videos']} videos"
        text = (
            f"{shown}, {facts['clips_with_mask']} with a mask ({facts['clips_with_human_mask']} human). A block is "
            f"{facts['block_frames']} frames of {facts['block_pixels']} × {facts['block_pixels']} pixels of the "
            f"network’s input; covered, it shows {_BY[facts['settings']['by']]}. Its effect is the criterion’s logit "
            "less that of the covered clip; integrated gradients are summed over the same blocks, from the same cover."
        )
        return SectionView(
            reasons=_reasons(summary, facts),
            blocks=[
                Block(text=text),
                _where(summary),
                *_curves(found.tables["curves"], summary),
                _sanity(summary, facts),
                *_pictures(found),
            ],
        )


def summary_row(
    summary: pl.DataFrame, statistic: str, *, method: str, criterion: str | None = None
) -> dict[str, Any] | None:
    """The row of one mean; of all criteria together without one."""
    which = pl.col("criterion").is_null() if criterion is None else pl.col("criterion") == criterion
    rows = summary.filter((pl.col("statistic") == statistic) & (pl.col("method") == method) & which).to_dicts()
    return rows[0] if rows else None


def _sets(summary: pl.DataFrame) -> list[str]:
    names = summary["statistic"].unique(maintain_order=True).to_list()
    return [name.removeprefix("enrichment_") for name in names if name.startswith("enrichment_")]


def _reasons(summary: pl.DataFrame, facts: Mapping[str, Any]) -> list[Reason]:
    found = []
    for one, said in ((CUE, "the cue"), (ANATOMY, "the anatomy")):
        row = summary_row(summary, f"enrichment_{one}", method=OCCLUSION)
        if row is not None and row["value"] is not None:
            share = summary_row(summary, f"share_{one}", method=OCCLUSION)
            assert share is not None
            text = f"{100 * share['value']:.1f} % of it lies on {said}, {bounded(row)} times its share of the area."
            found.append(Reason("Effect of covering:", text))
    less = summary_row(summary, "deletion_less_random", method=OCCLUSION)
    if less is not None and less["value"] is not None:
        text = f"covering in the order of effects moves logits by {bounded(less)} more than random order, on average."
        found.append(Reason("Order:", text))
    return [*found, *(Reason("Sanity check failed:", one) for one in facts["unchanged"])]


def _where(summary: pl.DataFrame) -> Block:
    named = [
        one for one in _sets(summary) if (row := summary_row(summary, f"area_{one}", method=OCCLUSION)) and row["value"]
    ]
    if not named:
        return Block(heading="Where the effects lie", text="No clip has a mask: whose effects they are cannot be said.")
    words = {one: one.replace("_", " ") for one in named}
    series = {
        method: {words[one]: row for one in named if (row := summary_row(summary, f"enrichment_{one}", method=method))}
        for method in METHODS
    }
    cells, rows = IntervalCells(digits=1, scale=100.0), []
    for one in named:
        held = [summary_row(summary, f"share_{one}", method=method) for method in METHODS]
        ratio = [summary_row(summary, f"enrichment_{one}", method=method) for method in METHODS]
        area = summary_row(summary, f"area_{one}", method=OCCLUSION)
        line = [cells(area, digits=2), *map(cells, held), *(cells(r, digits=2, scale=1.0) for r in ratio)]
        rows.append(Row(cells=(words[one], *line)))
    table = Table(
        title="Share of absolute effects on what the mask shows, means over clips and criteria",
        columns=columns("", "area, %", *(f"{m}, %" for m in METHODS), *(f"{m} over area" for m in METHODS)),
        rows=rows,
        note=cells.note,
    )
    chart = interval_dots(series, title="Effect over area (1: evenly spread)", reference=1.0, name="effect-where")
    by = "Masks are those nearest to the labelled frame, held to be the same in all frames of the clip."
    return Block(heading="Where the effects lie", charts=[chart], caption=by, table=table)


def _curves(curves: pl.DataFrame, summary: pl.DataFrame) -> list[Block]:
    charts: list[Markup] = []
    for kind, across in (("deletion", "blocks covered, %"), ("insertion", "blocks shown, %")):
        for criterion in CRITERIA:
            of = curves.filter((pl.col("curve") == kind) & (pl.col("criterion") == criterion))
            lines = {o: of.filter(pl.col("order") == o).sort("share").to_dicts() for o in (*METHODS, RANDOM_ORDER)}
            title = f"{kind.capitalize()}, {label(criterion)}"
            name = f"curve-{kind}-{criterion}"
            charts.append(curve_panel(lines, title=title, name=name, across=across, up="change of logit"))
    text = (
        "Blocks are covered, or shown on the covered clip, from the one that speaks most for the criterion to the one "
        "that speaks most against it (Petsiuk et al. 2018), beside random orders. Zero is the whole clip."
    )
    first = Block(heading="Insertion and deletion", text=text, charts=charts)
    return [first, *(Block(table=_areas(summary, kind)) for kind in ("deletion", "insertion"))]


def _areas(summary: pl.DataFrame, kind: str) -> Table:
    """Areas under one kind of curve, by criterion and order."""
    cells, rows = IntervalCells(digits=2), []
    every: tuple[str | None, ...] = (*CRITERIA, None)
    for one in every:
        line = [cells(summary_row(summary, f"{kind}_random", method=OCCLUSION, criterion=one))]
        for method in METHODS:
            line.append(cells(summary_row(summary, kind, method=method, criterion=one)))
            line.append(cells(summary_row(summary, f"{kind}_less_random", method=method, criterion=one)))
        rows.append(Row(cells=(label(one) if one else "all three", *line)))
    better = "Lower" if kind == "deletion" else "Higher"
    return Table(
        title=f"{kind.capitalize()}: area under the curve, mean change of the logit",
        columns=columns("", "random", *_heads()),
        rows=rows,
        note=f"{better} than random: the order of effects is the model’s. {cells.note}",
    )


def _heads() -> list[str]:
    short = {OCCLUSION: "occlusion", GRADIENTS: "gradients"}
    return [head for m in METHODS for head in (short[m], f"{short[m]} − random")]


def _sanity(summary: pl.DataFrame, facts: Mapping[str, Any]) -> Block:
    series = {
        method: criterion_rows([row for c in (*CRITERIA, None) if (row := _corr(summary, method, c))])
        for method in METHODS
    }
    chart = interval_dots(series, title="Rank correlation with random weights", reference=0.0, name="effect-sanity")
    called: Sequence[str] = facts["unchanged"]
    said = " ".join(called) if called else "No map stays the same: none has a rank correlation of 0.5 or more."
    text = (
        "The same maps of the same network with random weights (Adebayo et al. 2018); the correlation is Spearman’s, "
        f"of the absolute effects of blocks. {said}"
    )
    left = f"Integrated gradients miss the difference of logits by {facts['unexplained']:.3f} on average."
    return Block(heading="With random weights", text=text, charts=[chart], caption=left)


def _corr(summary: pl.DataFrame, method: str, criterion: str | None) -> dict[str, Any] | None:
    return summary_row(summary, "correlation", method=method, criterion=criterion)


def _pictures(found: Findings) -> list[Block]:
    frames, blocks = found.arrays["frames"], []
    for method in METHODS:
        maps = found.arrays[method.replace(" ", "_")]
        most = [max(float(np.abs(maps[:, k]).max()), 1e-12) for k in range(len(CRITERIA))]
        sheets = []
        for place, clip in enumerate(found.facts["pictured"]):
            rows = [list(frames[place])]
            for k in range(len(CRITERIA)):
                pieces = zip(frames[place], maps[place, k], strict=True)
                rows.append([signed_over(frame, effect, most=most[k]) for frame, effect in pieces])
            totals = ", ".join(
                f"{label(c)} {number(float(maps[place, k].sum()), digits=2, sign=True)}" for k, c in enumerate(CRITERIA)
            )
            said = f"From the top: a frame of each piece of the clip, then the criteria. Sums of effects: {totals}."
            source = jpeg_address(picture_rows(rows))
            sheets.append(Sheet(title=f"{clip.replace('_', ' frame ')}, {method}", source=source, said=said))
        scales = ", ".join(f"{label(c)} {most[k]:.3g}" for k, c in enumerate(CRITERIA))
        text = f"Amber speaks for the criterion, blue against it. One scale for all clips: full colour at {scales}."
        blocks.append(Block(heading=f"Maps by {method}", text=text, sheets=sheets))
    return blocks


SECTION = OcclusionSection()
