"""How figures look, on pages and in files: one style, in the colours that are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class FigureColours:
    """Colours by their part in a figure; `series` tells splits or criteria apart."""

    ink: str
    muted: str
    rule: str
    paper: str
    series: tuple[str, str, str]


#: The page's own colours in light (`report/templates/style.css`), for figures that are files.
LIGHT = FigureColours(
    ink="#15191e", muted="#5b6671", rule="#dde2e6", paper="#ffffff", series=("#0069a8", "#c24a06", "#00785a")
)


def style(palette: FigureColours) -> dict[str, Any]:
    """Matplotlib's settings."""
    return {
        "font.size": 12,
        "axes.titlesize": 12.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 11.5,
        "xtick.labelsize": 11.5,
        "ytick.labelsize": 11.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": palette.rule,
        "axes.labelcolor": palette.muted,
        "axes.titlecolor": palette.ink,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "text.color": palette.ink,
        "xtick.color": palette.rule,
        "ytick.color": palette.rule,
        "xtick.labelcolor": palette.muted,
        "ytick.labelcolor": palette.muted,
        "axes.grid": True,
        "grid.color": palette.rule,
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "text.parse_math": False,
    }
