"""Matplotlib drawn in the page's own colours: each figure becomes inline SVG whose strokes are CSS variables.

Figures are drawn with stand-in colours; the SVG then names the page's variables (`var(--c1)`), so that one drawing is
right in light, in dark and in print. Text stays text, in the page's font; no address, no date and no random id is left.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from calot.criteria import CRITERIA
from calot.drawing import FigureColours, style

INK, MUTED, RULE, PAPER = "#010101", "#020202", "#030303", "#040404"
ACCENT, BAND, WARN = "#050505", "#060606", "#070707"
_SERIES = ("#080808", "#090909", "#0a0a0a")
CRITERION = dict(zip(CRITERIA, _SERIES, strict=True))
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAPER: "--paper",
    ACCENT: "--accent",
    BAND: "--band",
    WARN: "--warn",
    **dict(zip(CRITERION.values(), ("--c1", "--c2", "--c3"), strict=True)),
}
_STYLE = {"svg.fonttype": "none"} | style(FigureColours(ink=INK, muted=MUTED, rule=RULE, paper=PAPER, series=_SERIES))
#: CSS pixels to an inch of figure: SVG points are read as pixels, so text keeps its size when a panel fills its column.
_UNITS = 72.0
#: Margins in pixels: fixed, so that panels side by side line up (and no layout has to be solved).
_RIGHT, _BOTTOM = 6.0, 42.0


@contextmanager
def canvas(*, width: float, height: float, left: float = 46.0, top: float = 26.0) -> Iterator[Figure]:
    """A figure of `width` x `height` CSS pixels in the page's style; call `svg` inside the block."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width / _UNITS, height / _UNITS))
        figure.subplots_adjust(
            left=left / width, right=1 - _RIGHT / width, bottom=_BOTTOM / height, top=1 - top / height
        )
        yield figure


def svg(figure: Figure, *, name: str, describe: str) -> Markup:
    """The figure as inline SVG. `name`, unique on the page, salts the ids; `describe` is for screen readers."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'<g id="[^"]*"/>|<style.*?</style>', "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"(?<=[ \"ML])(-?\d+\.\d{2})\d+", r"\1", text)
    size = re.search(r'<svg[^>]*viewBox="([^"]*)"', text)
    assert size is not None
    opening = Markup('<svg class="figure" role="img" aria-label="{}" viewBox="{}">').format(describe, size.group(1))
    body = text[text.index(">", size.end()) + 1 :]
    return opening + Markup(re.sub(r"\s*\n\s*", " ", body))
