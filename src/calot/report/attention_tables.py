"""The tables of the page of `calot attention`: every figure with its interval, and beside its baselines."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from calot.report.attention_files import AttentionFiles
from calot.report.tables import Cell, Row, Table, columns, number, ranged
from calot.statistics.attention import AGAINST, RANDOM_WEIGHTS, RUN, SHUFFLED, STUDY, STUDY_BEFORE, UNIFORM
from calot.statistics.intervals import Interval

ENTROPIES = {
    "entropy": "entropy, true",
    "entropy_before_rotary": "… before rotary",
    "averaged_entropy": "averaged over queries",
    STUDY: "the study’s",
    STUDY_BEFORE: "… before rotary",
    "gap_nats": "MI, nats",
    "gap_share": "MI, of log n",
}
PLACED = {
    "distance_tokens": "distance, tokens",
    "distance_pixels": "distance, pixels",
    "distance_bins": "in time, bins",
    "distance_seconds": "in time, s",
    "window_share": "own window",
    "largest": "largest, × n",
    "on_the_most": "on 1 %",
}


def values_of(files: AttentionFiles, statistic: str, *, variant: str = RUN) -> list[float]:
    """The defined means of a statistic, layer by layer."""
    return [row["value"] for row in files.means(statistic, variant=variant) if row["value"] is not None]


def token_sets(files: AttentionFiles) -> list[str]:
    """The classes whose attention was read, and the border."""
    names = files.summary["statistic"].unique(maintain_order=True).to_list()
    return [name.removeprefix("enrichment_") for name in names if name.startswith("enrichment_")]


def enrichment_table(files: AttentionFiles, kind: str) -> Table:
    """Attention over area, or the share of attention, of each class by layer."""
    heads = [one.replace("_", " ") for one in token_sets(files)]
    rows, reasons = [], dict[str, None]()
    for layer in files.layers:
        held = [files.mean(f"{kind}_{one}", variant=RUN, layer=layer) for one in token_sets(files)]
        rows.append(Row(cells=(str(layer), *(_cell(row, reasons=reasons) for row in held))))
    title = "Attention over area (1: uniform attention)" if kind == "enrichment" else "Share of attention"
    return Table(title=f"{title}, this run", columns=columns("layer", *heads), rows=rows, note=_note(reasons))


def _cell(row: Mapping[str, Any] | None, *, reasons: dict[str, None]) -> Cell:
    if row is None:
        return number(None)
    if row["low"] is None and row["reason"]:
        reasons[row["reason"]] = None
    found = Interval(value=row["value"], low=row["low"], high=row["high"], reason=row["reason"])
    return ranged(found, digits=4)


def _note(reasons: Mapping[str, None]) -> str:
    return f"No interval or no value: {'; '.join(reasons)}." if reasons else ""


def layer_table(files: AttentionFiles, names: Mapping[str, str], *, title: str, less: str | None = None) -> Table:
    """Of each layer, some statistics with their intervals over videos."""
    shown = {name: head for name, head in names.items() if files.means(name, variant=RUN, less=less)}
    rows, reasons = [], dict[str, None]()
    for layer in files.layers:
        cells = [_cell(files.mean(n, variant=RUN, layer=layer, less=less), reasons=reasons) for n in shown]
        rows.append(Row(cells=(str(layer), *cells)))
    heads = columns("layer", *shown.values())
    return Table(title=title, columns=heads, rows=rows, note=_note(reasons))


def baseline_tables(files: AttentionFiles) -> list[Table]:
    """For every statistic the last layer's value beside each baseline's, and the run minus those that are paired."""
    last, tables = files.layers[-1], []
    variants = [v for v in (RUN, AGAINST, RANDOM_WEIGHTS, SHUFFLED, UNIFORM) if values_of(files, "entropy", variant=v)]
    over_area = {f"enrichment_{s}": f"{s.replace('_', ' ')}, over area" for s in token_sets(files)}
    names = ENTROPIES | PLACED | over_area
    for layer in sorted({files.layers[0], last}):
        rows, reasons = [], dict[str, None]()
        for name, head in names.items():
            held = [files.mean(name, variant=v, layer=layer) for v in variants]
            if held[0] is None:
                continue
            title = head if not head.startswith("…") else f"{_before(name)}, before rotary"
            rows.append(Row(cells=(title, *(_cell(row, reasons=reasons) for row in held))))
        title = f"Layer {layer} beside random weights, shuffled frames and uniform attention"
        tables.append(
            Table(title=title, columns=columns("", *variants), rows=rows, sortable=False, note=_note(reasons))
        )
    return tables


def _before(name: str) -> str:
    return "the study’s" if name == STUDY_BEFORE else "entropy, true"


def weights_table(weights: pl.DataFrame) -> Table:
    """The relative size of the weight update by layer and linear."""
    targets = weights["target"].unique(maintain_order=True).to_list()
    rows = []
    for (layer,), held in weights.group_by(["layer"], maintain_order=True):
        rows.append(Row(cells=(str(layer), *(number(value, digits=4) for value in held["relative"]))))
    return Table(
        title="Relative size of the weight update, adapters merged", columns=columns("layer", *targets), rows=rows
    )
