"""The panels of a pretraining's page: losses, and what its monitors say of the features, over epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from markupsafe import Markup

from calot.provenance.pretraining_facts import LEAST_RANK, LEAST_SPREAD
from calot.report.canvas import ACCENT, INK, MUTED, WARN, canvas, svg
from calot.report.figures import PANEL, epoch_axis, epoch_points, legend_on, loss_panel

_LOOKS: tuple[dict[str, Any], ...] = (
    {"color": ACCENT},
    {"color": MUTED},
    {"color": INK, "linestyle": (0, (3, 2))},
    {"color": INK, "linestyle": (0, (1, 2))},
)


def pretraining_curves(metrics: pl.DataFrame, *, best_row: int | None) -> list[Markup]:
    """The loss, on val each kind of mask's, and the monitors of validation's features; collapsed epochs are marked."""
    panels = [loss_panel(metrics, best_row=best_row)]
    if kinds := mask_kinds(metrics):
        lines = {name: f"val_{name}" for name in kinds}
        panels.append(_panel(metrics, "Val loss by kind of mask", lines, best_row=best_row, name="curve-kinds"))
    monitors: tuple[tuple[str, dict[str, str], float | None], ...] = (
        ("Spread of features", {"deviation / size": "feature_spread"}, LEAST_SPREAD),
        ("Standard deviation of features", {"mean over features": "feature_std"}, None),
        ("Effective rank", {"directions": "effective_rank"}, LEAST_RANK),
        ("Cosine to the teacher", {"mean over tokens": "teacher_cosine"}, None),
    )
    for title, lines, least in monitors:
        (column,) = lines.values()
        if column in metrics.columns:
            panels.append(_panel(metrics, title, lines, best_row=best_row, name=f"curve-{column}", least=least))
    return panels


def mask_kinds(metrics: pl.DataFrame) -> list[str]:
    """The kinds of mask, by the columns that tell their losses apart."""
    names = [name.removeprefix("share_") for name in metrics.columns if name.startswith("share_")]
    return [name for name in names if f"val_{name}" in metrics.columns]


def collapsed_epochs(metrics: pl.DataFrame) -> list[int]:
    """The rows of collapsed epochs, counted from 1."""
    flags: Sequence[float | None] = metrics["collapsed"].to_list() if "collapsed" in metrics.columns else ()
    return [row for row, flag in enumerate(flags, start=1) if flag]


def _panel(
    metrics: pl.DataFrame,
    title: str,
    lines: dict[str, str],
    *,
    best_row: int | None,
    name: str,
    least: float | None = None,
) -> Markup:
    """Lines by label and column; below `least`, where given, a feature counts as collapsed."""
    described = f"{title} over epochs: {', '.join(lines)}"
    with canvas(width=PANEL[0], height=PANEL[1]) as figure:
        axes = figure.subplots()
        epochs = epoch_axis(axes, metrics, best_row=best_row)
        for (text, column), look in zip(lines.items(), _LOOKS, strict=False):
            axes.plot(epochs, metrics[column].to_numpy(), label=text, **look, **epoch_points(metrics))
        if least is not None:
            axes.axhline(least, color=WARN, linewidth=1, linestyle=(0, (3, 2)), label=f"collapse below {least:g}")
            axes.set_ylim(bottom=0)
            described += f"; below {least:g} they count as collapsed"
        collapsed = collapsed_epochs(metrics)
        for row in collapsed:
            axes.axvspan(row - 0.5, row + 0.5, color=WARN, alpha=0.12, linewidth=0)
        if collapsed:
            described += f"; collapsed in epochs {', '.join(map(str, collapsed))}"
        axes.set_title(title)
        legend_on(axes)
        return svg(figure, name=name, describe=described)
