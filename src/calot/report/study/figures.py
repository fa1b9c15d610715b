"""The document's figures: learning curves over seeds, one panel a quantity."""

from __future__ import annotations

from collections.abc import Sequence

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
        axes.fill_between(epochs, val, train, color=BAND, linewidth=0, label="gap")
        for run in runs:
            own = 100 * run.metrics["val_map"].to_numpy()
            axes.plot(np.arange(1, len(own) + 1), own, color=ACCENT, linewidth=0.9, alpha=0.45)
        axes.plot(epochs, train, color=MUTED, label="train, clean", **epoch_points(means))
        axes.plot(epochs, val, color=ACCENT, linewidth=2.4, label="val, mean", **epoch_points(means))
        axes.set(ylim=(0, 102), title="Macro mAP, points")
        legend_on(axes)
        best = int(np.nanargmax(val)) if np.isfinite(val).any() else None
        at = "undefined" if best is None else f"{val[best]:.1f} in epoch {best + 1}"
        last = f"{val[-1]:.1f} in the last, {train[-1]:.1f} on training clips"
        described = f"Macro mAP over {len(epochs)} epochs, mean of {len(runs)} seeds: highest {at}, {last}"
        return svg(figure, name=f"{name}-map", describe=described)


def _ap_panel(means: pl.DataFrame, *, name: str) -> Markup:
    said = []
    with canvas(width=PANEL[0], height=PANEL[1]) as figure:
        axes = figure.subplots()
        epochs = epoch_axis(axes, means, best_row=None)
        for criterion in CRITERIA:
            values = 100 * means[f"val_ap_{criterion}"].to_numpy()
            axes.plot(epochs, values, color=CRITERION[criterion], label=label(criterion), **epoch_points(means))
            said.append(f"{label(criterion)} ends at {values[-1]:.1f}")
        axes.set(ylim=(0, 102), title="Val AP per criterion, points")
        legend_on(axes)
        return svg(figure, name=f"{name}-ap", describe=f"Validation AP over epochs, mean over seeds: {', '.join(said)}")
