"""Figures of a paper as files: PDF and SVG, in one column's width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from calot.drawing import LIGHT, style
from calot.report.run_folder import RunFolder
from calot.report.study.folder import StudiedExperiment, StudyFolder
from calot.report.study.tables import by_epoch
from calot.writing import whole_file

_STYLE = style(LIGHT) | {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "calot", "font.size": 8}
_STYLE |= {"axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "lines.linewidth": 1.2}
_ACCENT = LIGHT.series[0]
_WIDTH = 6.5  # inches: both columns of most journals


@dataclass(frozen=True, kw_only=True)
class Whisker:
    """A row of a forest plot, in points; `low` and `high` None without an interval."""

    name: str
    value: float
    low: float | None
    high: float | None


def draw_figures(study: StudyFolder, *, out: Path) -> dict[str, list[Path]]:
    """By name, the files of scores, of differences and of learning curves (of runs that scored several epochs); a
    figure without data is not drawn."""
    found = {}
    with matplotlib.rc_context(_STYLE):
        if rows := score_rows(study):
            found["scores"] = _saved(_forest(rows, title="val macro mAP, points", zero=None), out / "scores")
        if rows := difference_rows(study):
            title = "difference from the baseline, points of mAP"
            found["differences"] = _saved(_forest(rows, title=title, zero=0.0), out / "differences")
        if curves := [one for one in study.experiments.values() if any(_scored(run) > 1 for run in one.sound)]:
            found["curves"] = _saved(_curves(curves), out / "curves")
    return found


def _scored(run: RunFolder) -> int:
    """Epochs that val was scored after."""
    return int(np.isfinite(run.metrics["val_map"].to_numpy()).sum()) if run.metrics.height else 0


def score_rows(study: StudyFolder) -> list[Whisker]:
    """mAP of every experiment that has one."""
    held = {name: one.intervals.map for name, one in study.experiments.items() if one.intervals is not None}
    return [
        Whisker(name=name, value=100 * item.value, low=_points(item.low), high=_points(item.high))
        for name, item in held.items()
        if item.value is not None
    ]


def difference_rows(study: StudyFolder) -> list[Whisker]:
    """Every comparison with a baseline that gave a number."""
    made = {name: d.comparison.map for name, d in study.against_baselines.items() if d.comparison is not None}
    return [
        Whisker(name=name, value=100 * item.value, low=_points(item.low), high=_points(item.high))
        for name, item in made.items()
        if item.value is not None
    ]


def _points(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _forest(rows: Sequence[Whisker], *, title: str, zero: float | None) -> Figure:
    figure = Figure(figsize=(_WIDTH, 0.7 + 0.2 * len(rows)))
    axes = figure.subplots()
    for place, row in enumerate(reversed(rows)):
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place, place], color=_ACCENT, linewidth=2.2, alpha=0.45)
        axes.plot(row.value, place, "o", color=_ACCENT, markersize=3.5)
    if zero is not None:
        axes.axvline(zero, color=LIGHT.muted, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
    axes.set(xlabel=title, ylim=(-0.7, len(rows) - 0.3))
    axes.grid(axis="y", visible=False)
    figure.subplots_adjust(left=0.33, right=0.97, bottom=0.45 / (0.7 + 0.2 * len(rows)), top=0.98)
    return figure


def _curves(shown: Sequence[StudiedExperiment]) -> Figure:
    across = 4
    down = -(-len(shown) // across)
    height = 0.6 + 1.35 * down
    figure = Figure(figsize=(_WIDTH, height))
    panels = np.atleast_1d(figure.subplots(down, across, sharey=True, squeeze=False)).ravel()
    for axes, one in zip(panels, shown, strict=False):
        means = by_epoch(one.sound)
        for run in one.sound:
            _line(axes, 100 * run.metrics["val_map"].to_numpy(), color=_ACCENT, linewidth=0.5, alpha=0.45)
        _line(axes, 100 * means["train_clean_map"].to_numpy(), color=LIGHT.muted)
        _line(axes, 100 * means["val_map"].to_numpy(), color=_ACCENT)
        axes.set_title(one.name, fontsize=6.5, fontweight="normal")
        axes.set_ylim(0, 100)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel("epoch", fontsize=8)
    figure.supylabel("mAP, points", fontsize=8)
    figure.subplots_adjust(left=0.09, right=0.99, bottom=0.4 / height, top=1 - 0.22 / height, hspace=0.5, wspace=0.1)
    return figure


def _line(axes: Any, values: np.ndarray, **look: Any) -> None:
    """Through the epochs that were scored."""
    known = np.isfinite(values)
    axes.plot(np.flatnonzero(known) + 1, values[known], **look, marker="o", markersize=1.5)


def _saved(figure: Figure, stem: Path) -> list[Path]:
    """As PDF and as SVG, without a date, so that equal runs give equal bytes."""
    found = []
    for suffix, undated in ((".pdf", {"CreationDate": None}), (".svg", {"Date": None})):
        path = stem.with_suffix(suffix)
        with whole_file(path) as part:
            figure.savefig(part, format=suffix[1:], metadata=undated)
        found.append(path)
    return found
