"""Where the pooling looks, on the page: means by group, weight by temporal bin, and weights laid over frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
from markupsafe import Markup

from calot.criteria import CRITERIA
from calot.report.explaining.figures import bins_chart
from calot.report.explaining.section import Block, Section, SectionView
from calot.report.sheets import Sheet, heat_over, jpeg_address, picture_rows
from calot.report.tables import Cell, Row, Table, columns, in_sentence, number, ranged
from calot.report.verdict import Reason
from calot.statistics.findings import Findings
from calot.statistics.intervals import Interval

#: Columns of the table by group: their statistic, factor and digits.
SHOWN: Mapping[str, tuple[str, float, int]] = {
    "entropy, %": ("entropy", 100.0, 1),
    "averaged over heads, %": ("averaged_entropy", 100.0, 1),
    "std × 1000": ("std", 1000.0, 3),
    "max × 1000": ("max", 1000.0, 2),
    "max over even": ("times_uniform", 1.0, 2),
    "on the last bin, %": ("last_bin", 100.0, 1),
    "confidence, %": ("confidence", 100.0, 1),
}
#: Frames of a clip on one sheet.
_FRAMES = 4


@dataclass(frozen=True, kw_only=True)
class PoolingSection(Section):
    """The attentive pooling, by how many criteria hold."""

    name: str = "pooling"
    title: str = "Where the pooling looks"

    def view(self, found: Findings) -> SectionView:
        facts, blocks = found.facts, []
        taps: list[str] = facts["taps"]
        for tap in taps:
            of = _tap_name(tap) if len(taps) > 1 else ""
            rows = found.tables["groups"].filter(pl.col("tap") == tap)
            blocks.append(
                Block(
                    heading=of,
                    charts=[bins_panel(rows, name=f"bins-{tap}", title="Weight by temporal bin")],
                    caption="Mean weight on each temporal bin, with 95 % intervals over videos; the rule is an even "
                    "share.",
                    table=means_table(rows, title="The pooling’s weights by group"),
                    note=f"Mean over clips, 95 % interval over videos. {WHAT}",
                )
            )
            blocks.append(Block(table=_correlations(found.tables["correlations"].filter(pl.col("tap") == tap))))
        blocks.append(Block(table=_right(found.tables["groups"].filter(pl.col("tap") == taps[0]))))
        said = (
            "Top row: a frame of each of up to four temporal bins, the oldest left. Below: the pooling’s weights laid "
            "over them, from none to the clip’s largest."
        )
        blocks.append(Block(heading="Clips", text=said, sheets=_sheets(found)))
        if facts["missing"]:
            blocks.append(Block(note=f"No clip of these groups in the split: {', '.join(facts['missing'])}."))
        return SectionView(reasons=[_reason(found)], blocks=blocks)


WHAT = (
    "Entropy: of each head’s weights, as a share of the most there can be, averaged over heads; averaged over heads: "
    "of their mean map, the study’s figure. Std and max: of that map over tokens; max over even: in units of an even "
    "weight."
)


def bins_panel(rows: pl.DataFrame, *, name: str, title: str, names: Mapping[str, str] | None = None) -> Markup:
    """The weight by bin of every group in `rows`; `names` renames groups."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for group in rows["group"].unique(maintain_order=True).to_list():
        held = rows.filter((pl.col("group") == group) & pl.col("statistic").str.starts_with("bin_"))
        lines[(names or {}).get(group, group)] = held.to_dicts()
    return bins_chart(lines, title=title, name=name)


def means_table(rows: pl.DataFrame, *, title: str, names: Mapping[str, str] | None = None) -> Table:
    """One line per group, one column per statistic of `SHOWN`, and the bin that most weight is on."""
    lines, reasons = [], dict[str, None]()
    for (group,), held in rows.group_by(["group"], maintain_order=True):
        got = {row["statistic"]: row for row in held.to_dicts()}
        cells: list[Cell] = [(names or {}).get(str(group), str(group))]
        cells += [f"{held['clips'][0]} of {held['videos'][0]}"]
        for statistic, scale, digits in SHOWN.values():
            row = got[statistic]
            if row["low"] is None and row["reason"]:
                reasons[row["reason"]] = None
            cells.append(ranged(_interval(row), digits=digits, scale=scale))
        bins = [row["value"] for name, row in got.items() if name.startswith("bin_")]
        cells.append(str(1 + max(range(len(bins)), key=bins.__getitem__)))
        lines.append(Row(cells=cells))
    heads = columns("clips that show", "clips of videos", *SHOWN, "preferred bin")
    return Table(title=title, columns=heads, rows=lines, sortable=False, note=_note(reasons))


def _note(reasons: Mapping[str, None]) -> str:
    return f"No interval: {'; '.join(reasons)}." if reasons else ""


def _interval(row: Mapping[str, Any]) -> Interval:
    return Interval(value=row["value"], low=row["low"], high=row["high"], reason=row["reason"])


def _correlations(rows: pl.DataFrame) -> Table:
    names = {
        "entropy": "entropy",
        "averaged_entropy": "… averaged over heads",
        "times_uniform": "largest weight",
    }
    lines, reasons = [], dict[str, None]()
    for row in rows.to_dicts():
        if row["reason"]:
            reasons[row["reason"]] = None
        lines.append(Row(cells=(names[row["statistic"]], str(row["clips"]), ranged(_interval(row)))))
    heads = columns("", "clips", "correlation with confidence")
    note = "Spearman over all these clips. Confidence: the mean over criteria of the probability of what was called."
    title = "Does the pooling’s sharpness go with confidence?"
    return Table(title=title, columns=heads, rows=lines, sortable=False, note=" ".join([note, _note(reasons)]).strip())


def _right(rows: pl.DataFrame) -> Table:
    lines = []
    for (group,), held in rows.group_by(["group"], maintain_order=True):
        got = {row["statistic"]: row for row in held.to_dicts()}
        shown = [ranged(_interval(got[f"right_{c}"]), digits=1, scale=100.0) for c in CRITERIA]
        lines.append(Row(cells=(str(group), *shown)))
    heads = columns("clips that show", *(f"C{k + 1}, %" for k in range(len(CRITERIA))))
    title = "Criteria that are right at a probability of 0.5, by group"
    return Table(title=title, columns=heads, rows=lines, sortable=False)


def _reason(found: Findings) -> Reason:
    rows = found.tables["groups"].filter(pl.col("statistic") == "entropy")
    values = [f"{100 * row['value']:.1f}" for row in rows.to_dicts() if row["value"] is not None]
    one = found.tables["correlations"].filter(pl.col("statistic") == "entropy").to_dicts()[0]
    low, high = min(values, key=float), max(values, key=float)
    span = low if low == high else f"{low} to {high}"
    cell = in_sentence(ranged(_interval(one), digits=2))
    text = f"Its weights have {span} % of the largest entropy there is; correlation of entropy with confidence {cell}."
    return Reason("Pooling.", text)


def _tap_name(tap: str) -> str:
    """`pooling.pools.0.attention_map` as a person reads it."""
    inner = tap.removeprefix("pooling.").removesuffix("attention_map").strip(".")
    return f"Pool {inner}" if inner else "Pooling"


def _sheets(found: Findings) -> list[Sheet]:
    held, rows, sheets = found.arrays, found.tables["clips"], []
    bins = held["frames"].shape[1]
    chosen = sorted({round(i * (bins - 1) / max(1, min(_FRAMES, bins) - 1)) for i in range(min(_FRAMES, bins))})
    for place, (group, clip) in enumerate(zip(held["groups"].tolist(), held["clips"].tolist(), strict=True)):
        pictures = [[held["frames"][place, t] for t in chosen]]
        for one in held["maps"][:, place]:
            most = max(float(one.max()), 1e-12)
            pictures.append([heat_over(held["frames"][place, t], one[t] / most) for t in chosen])
        row = rows.filter((pl.col("clip") == clip) & (pl.col("group") == group)).to_dicts()[0]
        title = f"Clip {clip}, {group}"
        sheets.append(Sheet(title=title, source=jpeg_address(picture_rows(pictures)), said=_clip_said(row)))
    return sheets


def _clip_said(row: Mapping[str, Any]) -> str:
    criteria = []
    for k, name in enumerate(CRITERIA):
        truth = {1: "yes", 0: "no"}.get(row[f"label_{name}"], "unlabelled")
        mark = "" if truth == "unlabelled" else (", right" if row[f"right_{name}"] else ", wrong")
        criteria.append(f"C{k + 1} {truth}, scored {in_sentence(number(row[f'score_{name}'], digits=2))}{mark}")
    return (
        f"{'; '.join(criteria)}. Entropy {100 * row['entropy']:.1f} %, largest weight {row['times_uniform']:.1f} × "
        f"even, most on bin {row['preferred_bin'] + 1}."
    )


SECTION = PoolingSection()
