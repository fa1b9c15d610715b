"""The figure of `calot bench growth`: time above, memory below, a column per question, slopes at the curves' ends."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from PIL import Image

from calot.bench.growth import FITTED, GrowthCurve, GrowthPanel, exponent, fitted_slope
from calot.drawing import LIGHT, style
from calot.errors import CalotError
from calot.writing import whole_file

KINDS = (".png", ".svg")
#: 1,400 pixels wide at 100 to an inch.
_WIDTH, _HEIGHT, _DPI = 14.0, 8.4, 100
_APART = 0.075  # of a panel's height between two slopes' text
_DATELESS = {"Date": None, "Creator": None, "Format": None, "Type": None}


def require_figure_name(path: Path) -> None:
    """Refuse, before minutes of measuring, a name that no figure can have (CalotError)."""
    if path.suffix.lower() not in KINDS:
        raise CalotError(f"--out {path}: a figure is a .png or an .svg file; name it {path.stem}.png")


def draw_growth(panels: Sequence[GrowthPanel], *, path: Path, measured_on: str) -> Path:
    """Write the figure as PNG or SVG, by the path's ending."""
    require_figure_name(path)
    kind = path.suffix.lower()
    with matplotlib.rc_context(style(LIGHT) | {"svg.hashsalt": "growth", "svg.fonttype": "none"}):
        figure = _figure(panels, measured_on=measured_on)
        with whole_file(path) as part:
            if kind == ".svg":
                figure.savefig(part, format="svg", metadata=_DATELESS)
            else:
                _save_small(figure, part)
    return path


def _save_small(figure: Figure, path: Path) -> None:
    """A PNG of 256 colours, a third of the bytes: text and lines have few."""
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    with Image.open(drawn) as picture:
        picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE).save(path, format="png", optimize=True)


def _figure(panels: Sequence[GrowthPanel], *, measured_on: str) -> Figure:
    figure = Figure(facecolor=LIGHT.paper, figsize=(_WIDTH, _HEIGHT), dpi=_DPI)
    figure.subplots_adjust(left=0.055, right=0.995, top=0.83, bottom=0.205, wspace=0.27, hspace=0.2)
    figure.text(0.012, 0.955, "How time and memory grow", fontsize=16, weight="bold")
    slopes = f"n^slope is fitted to the last {FITTED} sizes; dashed: the naive way; both axes are logarithmic"
    figure.text(0.012, 0.922, f"{measured_on}. {slopes}.", fontsize=11.5, color=LIGHT.muted)
    axes = figure.subplots(2, len(panels), squeeze=False)
    for column, panel in enumerate(panels):
        time, memory = axes[0, column], axes[1, column]
        _draw_curves(time, panel, values=[c.seconds for c in panel.curves])
        _draw_curves(memory, panel, values=[c.megabytes for c in panel.curves])
        time.set_title(panel.title, pad=24)
        time.annotate(
            panel.fixed, (0, 1), (0, 8), "axes fraction", textcoords="offset points", fontsize=10, color=LIGHT.muted
        )
        memory.set_xlabel(panel.over)
        memory.legend(
            loc="upper left",
            bbox_to_anchor=(-0.06, -0.2),
            fontsize=10.5,
            frameon=False,
            labelcolor=LIGHT.ink,
            handlelength=2.0,
            labelspacing=0.3,
        )
    axes[0, 0].set_ylabel("time, s")
    axes[1, 0].set_ylabel("peak memory, MB")
    figure.align_ylabels(axes[:, 0])
    return figure


def _look(curve: GrowthCurve) -> dict[str, Any]:
    """Colour and marker; a naive way is dashed and grey."""
    if curve.naive:
        return {"color": LIGHT.muted, "linestyle": (0, (3, 2)), "marker": "D", "markersize": 3.6}
    return {"color": LIGHT.series[curve.series], "marker": "os^"[curve.series], "markersize": 4.5}


def _draw_curves(axes: Any, panel: GrowthPanel, *, values: list[list[float]]) -> None:
    axes.set(xscale="log", yscale="log")
    for curve, found in zip(panel.curves, values, strict=True):
        axes.plot(curve.sizes, found, label=curve.name, **_look(curve))
    sizes = max((curve.sizes for curve in panel.curves), key=len)
    room = (sizes[-1] / sizes[0]) ** 0.34  # to the right of the last point, for the slopes
    axes.set_xlim(sizes[0] / room**0.15, sizes[-1] * room)
    every = [value for found in values for value in found]
    low, high = min(every), max(every)
    margin = max((high / low) ** 0.06, 1.3)
    axes.set_ylim(low / margin, high * margin)
    axes.xaxis.set_major_locator(FixedLocator(_labelled(sizes)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    decades = np.log10(high / low) + 2 * np.log10(margin)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0), numticks=9))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    _write_slopes(axes, panel.curves, values=values)


def _labelled(sizes: Sequence[int]) -> list[int]:
    """The last size and those before it whose labels have room, at least a quarter of the axis apart."""
    found = [sizes[-1]]
    for size in reversed(sizes):
        if found[-1] / size >= (sizes[-1] / sizes[0]) ** 0.25:
            found.append(size)
    return found


def _write_slopes(axes: Any, curves: Sequence[GrowthCurve], *, values: list[list[float]]) -> None:
    """Each curve's slope right of its last point, moved up or down where two would lie on each other.

    A curve that ends before the others has it on the left, where no other curve's end is.
    """
    last = max(curve.sizes[-1] for curve in curves)
    low, high = np.log(axes.get_ylim())
    ends = [(np.log(found[-1]) - low) / (high - low) for found in values]
    whole = [i for i, curve in enumerate(curves) if curve.sizes[-1] == last]
    moved = dict(zip(whole, spread_out([ends[i] for i in whole], apart=_APART), strict=True))
    for i, (curve, found) in enumerate(zip(curves, values, strict=True)):
        axes.annotate(
            exponent(fitted_slope(curve.sizes, values=found), digits=1),
            (curve.sizes[-1], moved.get(i, ends[i])),
            (6, 0) if i in moved else (-7, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="left" if i in moved else "right",
            va="center",
            fontsize=11,
            color=_look(curve)["color"],
        )


def spread_out(heights: Sequence[float], *, apart: float) -> list[float]:
    """Heights moved as little as groups of them must to be `apart`, in the same order, between 0 and 1 if they fit."""
    order = np.argsort(heights, kind="stable")
    offsets = apart * np.arange(len(order))
    blocks: list[list[float]] = []  # of what remains without the gaps, which must not fall: pool adjacent violators
    for value in np.asarray(heights, dtype=np.float64)[order] - offsets:
        blocks.append([float(value)])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    placed = np.array([np.mean(block) for block in blocks for _ in block])
    edge = apart / 2
    placed = np.clip(placed, edge, max(edge, 1 - edge - float(offsets[-1]))) + offsets
    found = np.empty(len(order))
    found[order] = placed
    return [float(height) for height in found]


def _short(value: float) -> str:
    return f"{value:g}" if value < 1000 else f"{value / 1000:.2g}k"
