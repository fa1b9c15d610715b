"""Charts of attention by layer and head, and averaged maps laid over frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from calot.report.canvas import ACCENT, BAND, CRITERION, INK, MUTED, PAPER, WARN, canvas, svg
from calot.report.figures import PANEL
from calot.report.sheets import heat_over, jpeg_address, picture_rows

#: How each variant's line is drawn; the run itself comes first and has a band.
LOOKS: dict[str, dict[str, Any]] = {
    "run": {"color": ACCENT, "linewidth": 2.2},
    "against": {"color": WARN, "linewidth": 1.8},
    "random": {"color": MUTED, "linestyle": (0, (3, 2)), "linewidth": 1.4},
    "shuffled": {"color": CRITERION["hepatocystic_triangle"], "linestyle": (0, (1, 2)), "linewidth": 1.6},
    "uniform": {"color": INK, "linestyle": (0, (6, 3)), "linewidth": 1.0},
    "averaged over queries": {"color": CRITERION["two_structures"], "linestyle": (0, (5, 2)), "linewidth": 1.4},
    "the study’s": {"color": CRITERION["cystic_plate"], "linestyle": (0, (2, 1)), "linewidth": 1.4},
}

Rows = Sequence[Mapping[str, Any]]


def by_layer(lines: Mapping[str, Rows], *, title: str, name: str, describe: str) -> Markup:
    """A value per layer, one line per variant; the band is the first one's 95 % interval over videos."""
    with canvas(width=PANEL[0], height=250.0, left=52.0) as figure:
        axes = figure.subplots()
        for place, (label, rows) in enumerate(lines.items()):
            layers = np.array([row["layer"] for row in rows])
            values = np.array([_number(row["value"]) for row in rows])
            if place == 0:
                low, high = (np.array([_number(row[end]) for row in rows]) for end in ("low", "high"))
                axes.fill_between(layers, low, high, color=BAND, linewidth=0)
            axes.plot(layers, values, label=label, marker="o", markersize=2.6, **LOOKS[label])
        axes.set(xlabel="layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.grid(axis="x", visible=False)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.set_title(title)
        legend = axes.legend(loc="best", fontsize=10.5, labelcolor=INK, handlelength=1.6, labelspacing=0.25)
        legend.get_frame().set(facecolor=PAPER, edgecolor="none", alpha=0.85)
        return svg(figure, name=name, describe=describe)


def grid_of_values(
    values: NDArray[np.float64],
    *,
    title: str,
    name: str,
    describe: str,
    across: str,
    names: Sequence[str] | None = None,
) -> Markup:
    """A field per layer (down) and head or target (across), the darker the larger, with the numbers where there are
    few."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    depth, width = values.shape
    with canvas(width=PANEL[0], height=max(170.0, 74.0 + 14.0 * depth), left=38.0) as figure:
        axes = figure.subplots()
        for layer in range(depth):
            for column in range(width):
                if not np.isfinite(values[layer, column]):
                    continue  # a layer may have fewer heads
                share = 0.5 if high <= low else (values[layer, column] - low) / (high - low)
                axes.add_patch(
                    Rectangle(
                        (column - 0.5, layer - 0.5), 1, 1, facecolor=ACCENT, alpha=0.06 + 0.94 * share, linewidth=0
                    )
                )
                if depth * width <= 64 and width <= 8:
                    colour = PAPER if share > 0.6 else INK
                    text = f"{values[layer, column]:.3g}"
                    axes.text(column, layer, text, ha="center", va="center", fontsize=9.5, color=colour)
        axes.set(xlim=(-0.5, width - 0.5), ylim=(depth - 0.5, -0.5), xlabel=across, ylabel="layer")
        axes.grid(visible=False)
        if names is None:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        else:
            axes.set_xticks(range(width), names)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        axes.set_title(f"{title}: {low:.3g} to {high:.3g}")
        return svg(figure, name=name, describe=describe)


def enrichments(lines: Mapping[str, Mapping[str, Mapping[str, Any]]], *, layer: int, name: str) -> Markup:
    """Attention over area for each class, the run's with its interval, others as marks; 1 is uniform attention."""
    classes = list(next(iter(lines.values())))
    marks = {"run": "o", "against": "D", "random": "x", "shuffled": "|"}
    with canvas(width=PANEL[0], height=64.0 + 27.0 * max(1, len(classes)), left=104.0) as figure:
        axes = figure.subplots()
        axes.axvline(1.0, color=INK, linewidth=1.0)
        for variant, held in lines.items():
            for row, one in enumerate(classes):
                found = held.get(one)
                if found is None or found["value"] is None:
                    continue
                look = LOOKS[variant]["color"]
                if variant == "run" and found["low"] is not None:
                    axes.plot([found["low"], found["high"]], [row, row], color=look, linewidth=4, alpha=0.4)
                axes.plot(found["value"], row, marks[variant], color=look, markersize=7 if variant == "run" else 6)
        axes.set_yticks(range(len(classes)), [c.replace("_", " ").replace("hepatocystic ", "") for c in classes])
        axes.set(ylim=(len(classes) - 0.5, -0.5))
        axes.grid(axis="y", visible=False)
        axes.set_title(f"Layer {layer}: attention over area")
        described = "; ".join(
            f"{one}: {variant} {held[one]['value']:.2f}"
            for variant, held in lines.items()
            for one in classes
            if one in held and held[one]["value"] is not None
        )
        return svg(figure, name=name, describe=f"Attention over area in layer {layer}. {described}")


def sheet(frames: NDArray[np.uint8], maps: NDArray[np.float32], *, columns: int = 4) -> str:
    """Frames `(t, h, w, 3)` of a few bins, below them the maps `(rows, t, y, x)` laid over them: one JPEG, as a data
    address. Each map row has its own scale, from none to its largest value."""
    bins = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), columns)).round().astype(int)).tolist()
    rows = [[frames[number] for number in bins]]
    for one in maps:
        most = max(float(one.max()), 1e-12)
        rows.append([heat_over(frames[number], one[number] / most) for number in bins])
    return jpeg_address(picture_rows(rows))


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
