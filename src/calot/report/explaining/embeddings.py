"""The section on pooled vectors: maps by criterion and by video, and probes beside chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from calot.criteria import CRITERIA, label
from calot.report.effect_figures import criterion_rows, interval_dots, vector_map
from calot.report.explaining.section import Block, Section, SectionView
from calot.report.interval_cells import IntervalCells, bounded
from calot.report.tables import Row, Table, columns, points
from calot.report.verdict import Reason
from calot.statistics.findings import Findings

#: Points that a map shows at most.
SHOWN = 500


@dataclass(frozen=True, kw_only=True)
class EmbeddingSection(Section):
    """Reads `clips` and `probes`."""

    name: str = "embeddings"
    title: str = "Pooled vectors"

    def view(self, found: Findings) -> SectionView:
        facts, identity = found.facts, found.facts["identity"]
        accuracy, variance = identity["accuracy"], identity["variance"]
        told = (
            f"from a clip’s vector its video is told in {bounded(accuracy, digits=0, scale=100)} % of clips, by "
            f"chance in {100 * identity['chance']:.0f} %; {bounded(variance, digits=0, scale=100)} % of the variance "
            "lies between videos beyond chance."
        )
        text = (
            f"{facts['clips']:,} of {facts['of']:,} labelled clips of {facts['videos']} videos, vectors of width "
            f"{facts['width']:,}."
        )
        return SectionView(
            reasons=[Reason("Video identity:", told)],
            blocks=[Block(text=text), _maps(found), _identity(found), _probes(found)],
        )


def _maps(found: Findings) -> Block:
    clips = found.tables["clips"]
    some = clips[np.unique(np.linspace(0, len(clips) - 1, min(SHOWN, len(clips))).round().astype(int)).tolist()]
    places = some.select("x", "y").to_numpy()
    one, two = (100 * share for share in found.facts["shares"])
    say = (f"first component, {one:.0f} % of variance", f"second, {two:.0f} %")
    charts = []
    for criterion in CRITERIA:
        met = some[f"label_{criterion}"].to_numpy() == 1
        groups = np.where(met, criterion, "no")
        apart = f"{int(met.sum())} of {len(met)} clips meet it; {_middle(places, met)}"
        describe = f"Map of pooled vectors by {label(criterion)}: {apart}"
        charts.append(
            vector_map(
                places, groups=groups, title=label(criterion), name=f"map-{criterion}", describe=describe, axes_say=say
            )
        )
    videos, numbers = np.unique(some["video"].to_numpy(), return_inverse=True)
    describe = f"The same map by video: {len(videos)} videos, each with its own mark and colour"
    charts.append(
        vector_map(places, groups=numbers, title="By video", name="map-video", describe=describe, axes_say=say)
    )
    shown = f" {len(some):,} clips are drawn; embeddings_clips.csv has all." if len(some) < len(clips) else ""
    caption = "Principal components of standardised vectors; coloured: the criterion is met. By video, marks repeat."
    return Block(heading="Maps", charts=charts, caption=caption + shown)


def _middle(places: np.ndarray, met: np.ndarray) -> str:
    if not met.any() or met.all():
        return "there is one group alone"
    a, b = (places[part].mean(axis=0) for part in (met, ~met))
    return f"their mean lies at {a[0]:.1f}, {a[1]:.1f}, that of the others at {b[0]:.1f}, {b[1]:.1f}"


def _identity(found: Findings) -> Block:
    identity = found.facts["identity"]
    cells = IntervalCells(digits=1, scale=100.0)
    rows = [
        Row(
            cells=("clips given to their own video, %", cells(identity["accuracy"]), f"{100 * identity['chance']:.1f}")
        ),
        Row(cells=("variance between videos, %", cells(identity["variance"]), "0")),
    ]
    table = Table(
        title="How much of a vector is its video",
        columns=columns("", "value", "chance"),
        rows=rows,
        sortable=False,
        note=cells.note,
    )
    left = identity["clips_without_other_times"]
    text = (
        "Logistic regression is fitted on other times of the same videos: each video is cut into four blocks of time, "
        f"one after the other is left out, and with it the clips within {found.facts['span_seconds']:.0f} s, which "
        "share frames with it. Chance says the longest video throughout. The share of variance is corrected for how "
        "many clips a video has."
    )
    if left:
        text += f" {left} clips are not judged: their video has no other times."
    return Block(heading="Video identity", text=text, table=table)


def _probes(found: Findings) -> Block:
    probes = found.tables["probes"]
    kinds = probes["features"].unique(maintain_order=True).to_list()
    series = {kind: criterion_rows(probes.filter(pl.col("features") == kind).to_dicts()) for kind in kinds}
    cells, rows = IntervalCells(digits=1, scale=100.0), []
    for name in next(iter(series.values())):
        held = [series[kind][name] for kind in kinds]
        rows.append(Row(cells=(name, points(held[0]["chance"]), *map(cells, held))))
    table = Table(
        title="AP in points, whole videos left out",
        columns=columns("", "chance", *kinds),
        rows=rows,
        note=cells.note,
    )
    chart = interval_dots(series, title="AP with whole videos left out", reference=None, name="probe-ap", scale=100.0)
    text = (
        "A logistic regression on the vectors, fitted on the other videos of this split, beside the scores of the "
        "run’s own head, which was fitted on train."
    )
    judged = any(row["value"] is not None for rows in series.values() for row in rows.values())
    return Block(heading="Criteria", text=text, charts=[chart] if judged else [], table=table)


SECTION = EmbeddingSection()
