"""The report's figures, one panel each (the page lays panels side by side, or one below the other on a phone).

Each function takes numbers that `calot.statistics` computed and returns inline SVG; none computes a statistic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from calot.criteria import CRITERIA, label
from calot.report.canvas import ACCENT, BAND, CRITERION, INK, MUTED, PAPER, RULE, canvas, svg

PANEL = (304.0, 232.0)

#: Scores are drawn from 0 to 1 and read in points, as everywhere.
_IN_POINTS = FuncFormatter(lambda value, _: f"{100 * value:g}")


def learning_curves(metrics: pl.DataFrame, *, best_row: int | None) -> list[Markup]:
    """Panels over epochs: the loss, macro mAP with the train-val gap, AP per criterion.

    Where the loss has several terms, these; where there is a segmentation decoder, its IoU.
    """
    panels = [
        loss_panel(metrics, best_row=best_row),
        map_panel(metrics, best_row=best_row),
        _criteria_panel(metrics, best_row=best_row),
    ]
    if loss_terms(metrics):
        panels.append(_terms_panel(metrics, best_row=best_row))
    if "val_miou" in metrics.columns:
        panels.append(_iou_panel(metrics, best_row=best_row))
    return panels


def loss_terms(metrics: pl.DataFrame) -> list[str]:
    """The terms of the loss, where `metrics.csv` tells them apart."""
    shares = (name.removeprefix("share_") for name in metrics.columns if name.startswith("share_"))
    return [name for name in shares if f"train_{name}" in metrics.columns]


def loss_panel(metrics: pl.DataFrame, *, best_row: int | None) -> Markup:
    """The loss on training clips and on val, as far as `metrics.csv` has them."""
    with canvas(width=PANEL[0], height=PANEL[1]) as figure:
        axes = figure.subplots()
        epoch_axis(axes, metrics, best_row=best_row)
        for column, name, look in (
            ("train_loss", "train, as trained on", {"color": MUTED, "linestyle": (0, (1, 2)), "linewidth": 1.4}),
            ("train_clean_loss", "train, clean", {"color": MUTED}),
            ("val_loss", "val", {"color": ACCENT}),
        ):
            if column in metrics.columns:
                _over_epochs(axes, metrics, metrics[column].to_numpy(), label=name, **look)
        axes.set_title("Loss")
        legend_on(axes)
        return svg(
            figure, name="curve-loss", describe="Loss over epochs: training as trained on, training clean, validation"
        )


def map_panel(
    metrics: pl.DataFrame, *, best_row: int | None, title: str = "Macro mAP", name: str = "curve-map"
) -> Markup:
    """Macro mAP on clean training clips and on val, the gap between them shaded, the best epoch marked."""
    train, val = metrics["train_clean_map"].to_numpy(), metrics["val_map"].to_numpy()
    with canvas(width=PANEL[0], height=PANEL[1]) as figure:
        axes = figure.subplots()
        epochs = epoch_axis(axes, metrics, best_row=best_row)
        both = np.isfinite(train) & np.isfinite(val)
        axes.fill_between(epochs[both], val[both], train[both], color=BAND, linewidth=0, label="gap")
        _over_epochs(axes, metrics, train, color=MUTED, label="train, clean")
        _over_epochs(axes, metrics, val, color=ACCENT, label="val")
        if best_row is not None:
            axes.plot(epochs[best_row], val[best_row], "o", color=ACCENT, markersize=6, zorder=5)
            axes.annotate(
                f"{100 * val[best_row]:.2f}",
                (epochs[best_row], val[best_row]),
                (0, -15),
                textcoords="offset points",
                ha="center",
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 1.0},
            )
        axes.set_title(f"{title}, points")
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(_IN_POINTS)
        legend_on(axes)
        return svg(figure, name=name, describe="Macro mAP over epochs on clean training clips and on validation")


def _criteria_panel(metrics: pl.DataFrame, *, best_row: int | None) -> Markup:
    with canvas(width=PANEL[0], height=PANEL[1]) as figure:
        axes = figure.subplots()
        epoch_axis(axes, metrics, best_row=best_row)
        for criterion in CRITERIA:
            values = metrics[f"val_ap_{criterion}"].to_numpy()
            _over_epochs(axes, metrics, values, color=CRITERION[criterion], label=label(criterion))
        axes.set_title("Validation AP per criterion, points")
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(_IN_POINTS)
        legend_on(axes)
        return svg(figure, name="curve-criteria", describe="Validation average precision per criterion over epochs")


def _terms_panel(metrics: pl.DataFrame, *, best_row: int | None) -> Markup:
    looks: list[dict[str, Any]] = [{"color": ACCENT}, {"color": MUTED}, {"color": INK, "linestyle": (0, (3, 2))}]
    with canvas(width=PANEL[0], height=PANEL[1]) as figure:
        axes = figure.subplots()
        epoch_axis(axes, metrics, best_row=best_row)
        for name, look in zip(loss_terms(metrics), looks, strict=False):
            _over_epochs(axes, metrics, metrics[f"train_{name}"].to_numpy(), label=name, **look)
        axes.set_title("Loss by term, train")
        legend_on(axes)
        return svg(figure, name="curve-terms", describe="Each term of the training loss over epochs")


def _iou_panel(metrics: pl.DataFrame, *, best_row: int | None) -> Markup:
    """The mean over classes in front; each class in the colour of the criterion that it belongs to."""
    looks: dict[str, dict[str, Any]] = {
        "background": {"color": MUTED, "linestyle": (0, (1, 2))},
        "cystic_plate": {"color": CRITERION["cystic_plate"]},
        "hepatocystic_triangle": {"color": CRITERION["hepatocystic_triangle"]},
        "cystic_artery": {"color": CRITERION["two_structures"]},
        "cystic_duct": {"color": CRITERION["two_structures"], "linestyle": (0, (3, 2))},
    }
    with canvas(width=PANEL[0], height=280.0) as figure:
        axes = figure.subplots()
        epoch_axis(axes, metrics, best_row=best_row)
        top = 0.0
        for name, look in looks.items():
            values = metrics[f"val_iou_{name}"].to_numpy()
            top = max(top, float(np.nanmax(values, initial=0.0)))
            _over_epochs(axes, metrics, values, label=name.replace("_", " "), linewidth=1.2, **look)
        mean = metrics["val_miou"].to_numpy()
        _over_epochs(axes, metrics, mean, color=INK, linewidth=2.2, label="mean")
        axes.set_ylim(0, min(1.02, max(0.1, 1.6 * top)))
        axes.set_title("Masks: IoU on val")
        legend_on(axes, columns=2)
        return svg(figure, name="curve-iou", describe="Intersection over union of the masks on validation over epochs")


def entropy(lines: Mapping[str, np.ndarray]) -> Markup:
    """Attention entropy over epochs, this run's in front of its baseline's."""
    looks: list[dict[str, Any]] = [{"color": ACCENT}, {"color": MUTED, "linestyle": (0, (3, 2))}]
    longest = max(len(values) for values in lines.values())
    marks: dict[str, Any] = {"marker": "o", "markersize": 3.2} if longest <= 12 else {}
    with canvas(width=PANEL[0], height=PANEL[1]) as figure:
        axes = figure.subplots()
        for (name, values), look in zip(lines.items(), looks, strict=False):
            axes.plot(np.arange(1, len(values) + 1), values, label=name, **look, **marks)
        axes.set(xlabel="epoch", ylim=(0, 1.02))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        axes.grid(axis="x", visible=False)
        axes.set_title("Attention entropy, val")
        legend_on(axes)
        described = f"Entropy of the last layer's attention over epochs: {' and '.join(lines)}"
        return svg(figure, name="attention-entropy", describe=described)


def epoch_axis(axes: Any, metrics: pl.DataFrame, *, best_row: int | None) -> np.ndarray:
    """Rows from 1 (a second stage continues where the first ended); marks the best epoch and changes of stage."""
    epochs = np.arange(1, metrics.height + 1)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.grid(axis="x", visible=False)
    if metrics.height > 1:
        axes.set_xlim(0.8, metrics.height + 0.2)
    if "stage" in metrics.columns:
        stages = metrics["stage"].to_list()
        for row in range(1, len(stages)):
            if stages[row] != stages[row - 1]:
                axes.axvline(row + 0.5, color=MUTED, linewidth=0.8)
    if best_row is not None:
        axes.axvline(best_row + 1, color=ACCENT, linewidth=1, linestyle=(0, (3, 3)))
    return epochs


def _over_epochs(axes: Any, metrics: pl.DataFrame, values: np.ndarray, **look: Any) -> None:
    """A line through the epochs that have a value: not every epoch need be scored."""
    known = np.isfinite(values)
    axes.plot(np.flatnonzero(known) + 1, values[known], **look, **epoch_points(metrics))


def epoch_points(metrics: pl.DataFrame) -> dict[str, Any]:
    """Mark the points where a line alone would hide how few there are."""
    return {"marker": "o", "markersize": 3.2} if metrics.height <= 12 else {}


def legend_on(axes: Any, *, columns: int = 1) -> None:
    """The panel's legend, on paper so that lines do not cross its words."""
    look = {"handlelength": 1.6, "borderaxespad": 0.2, "labelspacing": 0.3, "columnspacing": 0.9}
    place = "best" if columns == 1 else "upper left"
    legend = axes.legend(loc=place, fontsize=11, labelcolor=INK, ncols=columns, **look)
    legend.set_zorder(6)
    legend.get_frame().set(facecolor=PAPER, edgecolor="none", alpha=0.85)


def reliability(
    criterion: str,
    *,
    predicted: np.ndarray,
    observed: np.ndarray,
    bounds: np.ndarray,
    counts: np.ndarray,
    prevalence: float,
) -> Markup:
    """Observed share of positives against mean predicted probability, one dot per bin (area ~ frames in it).

    `bounds` (2, n) are each share's interval, drawn as a whisker; NaN where it has none.
    """
    with canvas(width=PANEL[0], height=280.0, left=46.0) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        axes.axhline(prevalence, color=RULE, linewidth=1.2)
        axes.vlines(predicted, bounds[0], bounds[1], color=CRITERION[criterion], linewidth=1.6, alpha=0.45)
        axes.plot(predicted, observed, color=CRITERION[criterion], linewidth=1.4)
        sizes = 12 + 60 * counts / max(float(counts.max(initial=1.0)), 1.0)
        axes.scatter(predicted, observed, s=sizes, color=CRITERION[criterion], linewidths=0, zorder=3)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="predicted probability", ylabel="observed share")
        axes.set_title(label(criterion))
        described = f"Reliability curve of {label(criterion)}, with intervals"
        return svg(figure, name=f"reliability-{criterion}", describe=described)


def decision(
    criterion: str,
    *,
    split: str,
    thresholds: np.ndarray,
    model: np.ndarray,
    bounds: np.ndarray,
    treat_all: np.ndarray,
    prevalence: float,
) -> Markup:
    """Net benefit over threshold probabilities, against calling every frame positive and calling none.

    `bounds` (2, n) are the model's interval, NaN where it has none.
    """
    with canvas(width=PANEL[0], height=PANEL[1], left=50.0) as figure:
        axes = figure.subplots()
        axes.fill_between(thresholds, bounds[0], bounds[1], color=CRITERION[criterion], alpha=0.16, linewidth=0)
        axes.axhline(0, color=INK, linewidth=1, label="call none")
        axes.plot(thresholds, treat_all, color=MUTED, linewidth=1.3, linestyle=(0, (3, 2)), label="call all")
        axes.plot(thresholds, model, color=CRITERION[criterion], label="model")
        top = max(prevalence, float(np.nanmax(model, initial=0.0)), 0.02)
        axes.set(xlim=(0, 1), ylim=(-0.5 * top, 1.4 * top), xlabel="threshold probability", ylabel="net benefit")
        axes.set_title(f"{label(criterion)}, {split}")
        legend_on(axes)
        described = f"Decision curve of {label(criterion)}, {split}, with its interval"
        return svg(figure, name=f"decision-{split}-{criterion}", describe=described)


def drift_panel(criterion: str, *, split: str, values: np.ndarray, bounds: np.ndarray) -> Markup:
    """Mean forecast minus observed share by fifth of the operation; `bounds` (2, n) are whiskers, NaN where none is."""
    places = np.arange(1, values.size + 1)
    with canvas(width=PANEL[0], height=200.0, left=52.0) as figure:
        axes = figure.subplots()
        axes.axhline(0, color=INK, linewidth=1)
        axes.vlines(places, bounds[0], bounds[1], color=CRITERION[criterion], linewidth=1.6, alpha=0.45)
        axes.plot(places, values, "o-", color=CRITERION[criterion], markersize=4)
        top = 1.1 * max(0.1, float(np.nanmax(np.abs(values), initial=0.0)), min(1.0, _widest(bounds)))
        axes.set(xlim=(0.6, values.size + 0.4), ylim=(-top, top), xlabel="fifth of the operation")
        axes.set_xticks(places)
        axes.grid(axis="x", visible=False)
        axes.set_title(f"{label(criterion)}, {split}")
        described = f"Forecast minus observed share of {label(criterion)} over the operation, {split}, with intervals"
        return svg(figure, name=f"drift-{split}-{criterion}", describe=described)


def _widest(bounds: np.ndarray) -> float:
    known = np.abs(bounds[np.isfinite(bounds)])
    return float(known.max()) if known.size else 0.0


def rater_agreement(criterion: str, *, soft: np.ndarray, split: str) -> Markup:
    """How many scored frames each rater mean has: 0 and 1 are unanimous, what lies between is disagreement."""
    values, counts = np.unique(np.round(soft[np.isfinite(soft)], 2), return_counts=True)
    with canvas(width=PANEL[0], height=200.0) as figure:
        axes = figure.subplots()
        bars = axes.bar(np.arange(values.size), counts / max(counts.sum(), 1), color=CRITERION[criterion], width=0.62)
        for bar, value in zip(bars, values, strict=True):
            bar.set_alpha(0.35 + 0.65 * float(np.clip(value, 0, 1)))
        axes.bar_label(bars, labels=[f"{count:,}" for count in counts], fontsize=11, color=MUTED, padding=2)
        axes.set_xticks(np.arange(values.size), [f"{value:g}" for value in values])
        axes.set(ylim=(0, 1.12), xlabel=f"rater mean, {split}")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(axis="x", visible=False)
        axes.set_title(label(criterion))
        return svg(figure, name=f"raters-{criterion}", describe=f"Frames per rater mean of {label(criterion)}")
