"""Charts and pictures of the explain page's effects, curves, probes and maps of vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from calot.criteria import label
from calot.report.canvas import ACCENT, BAND, CRITERION, INK, MUTED, PAPER, WARN, canvas, svg
from calot.report.figures import PANEL
from calot.report.sheets import SIDE

Rows = Mapping[str, Mapping[str, Any]]

#: What speaks for a criterion is amber, what speaks against it blue.
FOR, AGAINST_IT = (255.0, 196.0, 0.0), (70.0, 150.0, 255.0)
_SERIES = ((ACCENT, "o"), (WARN, "D"), (CRITERION["two_structures"], "s"), (MUTED, "x"))


def interval_dots(
    series: Mapping[str, Rows], *, title: str, reference: float | None, name: str, unit: str = "", scale: float = 1.0
) -> Markup:
    """A row per name and a dot with its 95 % interval per series; a line at `reference`."""
    names = list(dict.fromkeys(one for rows in series.values() for one in rows))
    said = []
    high = 78.0 + (18.0 + 9.0 * len(series)) * max(1, len(names))
    left = 20.0 + 5.6 * max(map(len, names), default=0)
    with canvas(width=PANEL[0], height=high, left=left) as figure:
        axes = figure.subplots()
        if reference is not None:
            axes.axvline(scale * reference, color=INK, linewidth=1.0)
        for place, (which, rows) in enumerate(series.items()):
            colour, mark = _SERIES[place % len(_SERIES)]
            shift = (place - (len(series) - 1) / 2) * 0.26
            shown = False
            for line, one in enumerate(names):
                row = rows.get(one)
                if row is None or row["value"] is None:
                    continue
                if row["low"] is not None:
                    ends = [scale * row["low"], scale * row["high"]]
                    axes.plot(ends, [line + shift] * 2, color=colour, linewidth=3.5, alpha=0.4, solid_capstyle="butt")
                dot = axes.plot(scale * row["value"], line + shift, mark, color=colour, markersize=5.5)[0]
                if not shown:
                    dot.set_label(which)
                    shown = True
                said.append(f"{one}, {which}: {scale * row['value']:.3g}")
        axes.set_yticks(range(len(names)), names, fontsize=10)
        axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=unit)
        axes.grid(axis="y", visible=False)
        axes.set_title(title, x=-left / (PANEL[0] - left))
        if len(series) > 1:
            _legend(axes)
        return svg(figure, name=name, describe=f"{title}. {'; '.join(said) or 'nothing is defined'}")


def curve_panel(
    curves: Mapping[str, Sequence[Mapping[str, Any]]], *, title: str, name: str, across: str, up: str
) -> Markup:
    """A line per order, the first one's interval as a band."""
    with canvas(width=PANEL[0], height=250.0, left=52.0) as figure:
        axes = figure.subplots()
        said = []
        for place, (order, rows) in enumerate(curves.items()):
            colour = (ACCENT, WARN, MUTED)[place % 3]
            share = [100 * row["share"] for row in rows]
            value = [np.nan if row["value"] is None else row["value"] for row in rows]
            if place == 0:
                low, high = ([np.nan if row[e] is None else row[e] for row in rows] for e in ("low", "high"))
                axes.fill_between(share, low, high, color=BAND, linewidth=0)
            style = (0, (3, 2)) if order == "random" else "-"
            axes.plot(share, value, color=colour, linewidth=1.8, linestyle=style, label=order)
            said.append(f"{order} ends at {value[-1]:.2f}, halfway {value[len(value) // 2]:.2f}")
        axes.axhline(0.0, color=INK, linewidth=0.8)
        axes.set(xlabel=across, ylabel=up)
        axes.set_title(title)
        _legend(axes)
        return svg(figure, name=name, describe=f"{title}: {'; '.join(said)}")


def vector_map(
    places: NDArray[np.float64],
    *,
    groups: NDArray[Any],
    title: str,
    name: str,
    describe: str,
    axes_say: tuple[str, str],
) -> Markup:
    """Points in a plane: `groups` is a criterion's label (0, 1) or the number of the video."""
    with canvas(width=PANEL[0], height=290.0, left=44.0) as figure:
        axes = figure.subplots()
        kinds = np.unique(groups)
        for kind in kinds.tolist():
            mine = groups == kind
            look = _group_look(kind, kinds=len(kinds))
            axes.plot(places[mine, 0], places[mine, 1], linestyle="", **look)
        axes.set(xlabel=axes_say[0], ylabel=axes_say[1])
        axes.set_title(title)
        if isinstance(kinds[0], str) and len(kinds) <= 3:
            _legend(axes)
        return svg(figure, name=name, describe=describe)


def _group_look(kind: Any, *, kinds: int) -> dict[str, Any]:
    """Negatives small and grey, positives in the criterion's colour; videos by colour and mark."""
    if kind == "no":
        return {"marker": "o", "markersize": 2.6, "color": MUTED, "alpha": 0.6, "label": "not met"}
    if isinstance(kind, str):
        return {"marker": "o", "markersize": 3.8, "color": CRITERION[kind], "label": "met"}
    marks = "osD^v<>Phd*X"
    colours = (ACCENT, WARN, MUTED, INK, *CRITERION.values())
    return {
        "marker": marks[kind % len(marks)],
        "markersize": 3.4,
        "color": colours[(kind // len(marks) + kind) % len(colours)],
        "markeredgecolor": PAPER,
        "markeredgewidth": 0.3,
    }


def signed_over(frame: NDArray[np.uint8], effect: NDArray[np.floating[Any]], *, most: float) -> NDArray[np.uint8]:
    """A map of effects over a darkened grey frame: amber for the criterion, blue against it, full at `most`."""
    small = Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR).convert("L")
    grey = np.asarray(small, dtype=np.float32)[..., None] * 0.55
    strength = np.clip(np.asarray(effect, dtype=np.float64) / max(most, 1e-12), -1, 1)
    wide = Image.fromarray(((strength + 1) * 127.5).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    level = np.asarray(wide, dtype=np.float32)[..., None] / 127.5 - 1
    size = np.where(np.abs(level) < 0.02, 0.0, np.abs(level))
    colour = np.where(level > 0, np.array(FOR, dtype=np.float32), np.array(AGAINST_IT, dtype=np.float32))
    return np.clip(grey * (1 - 0.7 * size) + colour * size * 0.9, 0, 255).astype(np.uint8)


def criterion_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Rows that have a `criterion` by its name for people, all together last."""
    return {"all three" if (c := row["criterion"]) is None else label(c): row for row in rows}


def _legend(axes: Any) -> None:
    if not axes.get_legend_handles_labels()[0]:
        return
    legend = axes.legend(loc="best", fontsize=10, labelcolor=INK, handlelength=1.5, labelspacing=0.25)
    legend.get_frame().set(facecolor=PAPER, edgecolor="none", alpha=0.85)
