"""Published test mAP on Endoscapes' keyframes, and when a study may be held against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Published:
    """Test mAP in points; `spread` as published (None: a single run); `source` is a BibTeX key or words."""

    system: str
    map: float
    spread: float | None
    note: str = ""


#: All: Endoscapes2023, test split, keyframes, majority of three raters.
PUBLISHED: Sequence[Published] = (
    Published(system="ResNet50", map=51.5, spread=None, note="single frames"),
    Published(system="LG-CVS", map=67.3, spread=None, note="boxes in training; 64.7 in PercEVA's re-run"),
    Published(system="SV2LSTG", map=65.8, spread=None, note="as re-run by PercEVA, with ground-truth boxes"),
    Published(system="SwinCVS, frozen", map=67.45, spread=0.41, note="independent re-runs 65.5 to 65.8"),
    Published(system="SwinCVS, end to end", map=64.59, spread=None),
    Published(system="EVA-02-L, frames", map=67.7, spread=0.3),
    Published(system="PercEVA", map=69.4, spread=0.2),
    Published(system="PercEVA, end to end", map=70.5, spread=3.1),
    Published(system="SMIL", map=70.66, spread=None, note="one run"),
)


def why_not_comparable(*, dataset: str, synthetic: bool, protocol: str, tested: bool) -> str:
    """Why no published number may stand beside a study's; empty where one may."""
    if synthetic or dataset != "endoscapes":
        kind = "phantom data" if synthetic else f"the data set {dataset}"
        return f"these runs are of {kind}; published systems are scored on Endoscapes"
    if protocol != "keyframes":
        return f"these runs are scored under {protocol}; published systems on keyframes"
    if not tested:
        return "no run here was scored on test, and published numbers are of test: val numbers are chosen on val"
    return ""
