"""The document's figures: learning curves over seeds, one panel a quantity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from calot.criteria import CRITERIA, label
from calot.report.canvas import ACCENT, BAND, CRITERION, MUTED, canvas, svg
from calot.report.figures import PANEL, epoch_axis, epoch_points, legend_on
from calot.report.run_folder import RunFolder


def seed_curves(runs: Sequence[RunFolder], *, means: pl.DataFrame, name: str) -> list[Markup]:
    """mAP over epochs (each seed thin, the mean bold, the gap to clean training clips shaded), and AP per criterion."""
    return [_map_panel(runs, means=means, name=name), _ap_panel(means, name=name)]


def _map_panel(runs: Sequence[RunFolder], *, means: pl.DataFrame, name: str) -> Markup:
    train, val = (100 * means[column].to_numpy() for column in ("train_clean_map", "val_map"))
    with canvas(width=PANEL[0], height=PANEL[1]) as figure:
        axes = figure.subplots()
        epochs = epoch_axis(axes, means, best_row=None)
        both = np.isfinite(train) & np.isfinite(val)
        axes.fill_between(epochs[both], val[both], train[both], color=BAND, linewidth=0, label="gap")
        for run in runs:
            own = 100 * run.metrics["val_map"].to_numpy()
            known = np.isfinite(own)
            axes.plot(np.flatnonzero(known) + 1, own[known], color=ACCENT, linewidth=0.9, alpha=0.45)
        _over_epochs(axes, means, train, color=MUTED, label="train, clean")
        _over_epochs(axes, means, val, color=ACCENT, linewidth=2.4, label="val, mean")
        axes.set(ylim=(0, 102), title="Macro mAP, points")
        legend_on(axes)
        scored = np.flatnonzero(np.isfinite(val))
        at = last = "undefined"
        if len(scored):
            best, end = int(np.nanargmax(val)), int(scored[-1])
            at = f"{val[best]:.1f} in epoch {best + 1}"
            last = f"{val[end]:.1f} in the last that was scored, {train[end]:.1f} on training clips"
        described = f"Macro mAP over {len(epochs)} epochs, mean of {len(runs)} seeds: highest {at}, {last}"
        return svg(figure, name=f"{name}-map", describe=described)


def _ap_panel(means: pl.DataFrame, *, name: str) -> Markup:
    said = []
    with canvas(width=PANEL[0], height=PANEL[1]) as figure:
        axes = figure.subplots()
        epoch_axis(axes, means, best_row=None)
        for criterion in CRITERIA:
            values = 100 * means[f"val_ap_{criterion}"].to_numpy()
            _over_epochs(axes, means, values, color=CRITERION[criterion], label=label(criterion))
            known = values[np.isfinite(values)]
            said.append(
                f"{label(criterion)} ends at {known[-1]:.1f}" if len(known) else f"{label(criterion)} undefined"
            )
        axes.set(ylim=(0, 102), title="Val AP per criterion, points")
        legend_on(axes)
        return svg(figure, name=f"{name}-ap", describe=f"Validation AP over epochs, mean over seeds: {', '.join(said)}")


def _over_epochs(axes: Any, means: pl.DataFrame, values: np.ndarray, **look: Any) -> None:
    """A line through the epochs that have a value: not every epoch need be scored."""
    known = np.isfinite(values)
    axes.plot(np.flatnonzero(known) + 1, values[known], **look, **epoch_points(means))
