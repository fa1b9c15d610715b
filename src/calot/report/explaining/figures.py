"""Charts of the parts of `calot explain`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from calot.criteria import CRITERIA, label
from calot.report.canvas import ACCENT, CRITERION, INK, MUTED, PAPER, WARN, canvas, svg
from calot.report.figures import PANEL, legend_on

#: A line or a dot of each group of clips, and of the criteria.
LOOKS: dict[str, dict[str, Any]] = {
    "all three": {"color": ACCENT},
    "exactly one": {"color": WARN, "linestyle": (0, (5, 2))},
    "two": {"color": INK, "linestyle": (0, (2, 1))},
    "none": {"color": MUTED, "linestyle": (0, (1, 2))},
    **{label(name): {"color": CRITERION[name]} for name in CRITERIA},
}
_OTHER: dict[str, Any] = {"color": INK, "linestyle": (0, (6, 2, 1, 2))}

Rows = Sequence[Mapping[str, Any]]


def bins_chart(lines: Mapping[str, Rows], *, title: str, name: str) -> Markup:
    """Weight by temporal bin, oldest left, one line per group with its 95 % interval; the rule is the even share."""
    bins = max((len(rows) for rows in lines.values()), default=1)
    with canvas(width=PANEL[0], height=PANEL[1]) as figure:
        axes = figure.subplots()
        axes.axhline(1 / bins, color=MUTED, linewidth=0.8)
        for group, rows in lines.items():
            at = np.arange(1, len(rows) + 1)
            look = LOOKS.get(group, _OTHER)
            low, high = (np.array([np.nan if r[end] is None else r[end] for r in rows]) for end in ("low", "high"))
            axes.fill_between(at, low, high, color=look["color"], alpha=0.1, linewidth=0)
            values = [np.nan if r["value"] is None else r["value"] for r in rows]
            axes.plot(at, values, label=group, marker="o", markersize=3, **look)
        axes.set(xlabel="temporal bin, oldest first")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        tops = [r["high"] or r["value"] or 0.0 for rows in lines.values() for r in rows]
        axes.set_ylim(0, 1.45 * max([1 / bins, *tops]))
        axes.grid(axis="x", visible=False)
        axes.set_title(title)
        legend_on(axes)
        first = {g: rows[-1]["value"] for g, rows in lines.items()}
        said = "; ".join(f"{g}: {v:.3f} on the last bin" for g, v in first.items() if v is not None)
        return svg(figure, name=name, describe=f"{title}, by temporal bin. {said}")


def counts_grid(
    counts: NDArray[np.int64], *, title: str, name: str, down: str, across: str, names: Sequence[str]
) -> Markup:
    """A field per pair, the darker the larger its share of its row, with the number in it."""
    size = len(names)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with canvas(width=PANEL[0], height=84.0 + 44.0 * size, left=74.0) as figure:
        axes = figure.subplots()
        for i in range(size):
            for j in range(size):
                share = float(counts[i, j] / totals[i, 0])
                field = Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=ACCENT, alpha=0.05 + 0.9 * share, linewidth=0)
                axes.add_patch(field)
                colour = PAPER if share > 0.55 else INK
                axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", fontsize=11, color=colour)
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel=across, ylabel=down)
        axes.grid(visible=False)
        axes.set_xticks(range(size), names)
        axes.set_yticks(range(size), names)
        axes.set_title(title)
        said = "; ".join(f"{names[i]}: {', '.join(map(str, counts[i].tolist()))}" for i in range(size))
        return svg(figure, name=name, describe=f"{title}: rows {down}, columns {across}. {said}")
