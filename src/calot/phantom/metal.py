"""Metal clips across duct and artery, late in an operation."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calot.phantom.anatomy import LEFT, SCALE, TOP, Anatomy
from calot.phantom.dynamics import STRUCTURES
from calot.phantom.instruments import Pixels

#: Where along its tube each clip lies: two towards the patient and one towards the gallbladder, as surgeons lay them.
_ALONG = {"duct": (0.22, 0.46, 0.56), "artery": (0.30, 0.50)}
_THICK = 0.013  # in units
_STEEL, _SHINE = (150, 152, 160), (232, 234, 240)


@dataclass(frozen=True)
class MetalClip:
    """A clip's middle and half length as a vector, in scene units; the structure (an index) that must be laid open,
    and the share of its dissection that lays the clip's place open."""

    middle: tuple[float, float]
    half: tuple[float, float]
    structure: int
    opened_at: float


def lay_clips(anatomy: Anatomy) -> list[MetalClip]:
    """The clips of one patient; none where the gallbladder or another structure lies in front."""
    found = []
    for name, places in _ALONG.items():
        tube, index = {"duct": anatomy.duct, "artery": anatomy.artery}[name], STRUCTURES.index(name)
        for along in places:
            spots = [_nearest(tube.ratio, tube.along, along + step) for step in (-0.04, 0.0, 0.04)]
            row, column = spots[1]
            if anatomy.region[row, column] != 1 + index:
                continue
            way = np.asarray((spots[2][1] - spots[0][1], spots[2][0] - spots[0][0]), float)
            length = 1.45 * float(tube.radius[row, column]) / max(float(np.hypot(*way)), 1e-6)
            found.append(
                MetalClip(
                    middle=(column / SCALE + LEFT, row / SCALE + TOP),
                    half=(-way[1] * length, way[0] * length),
                    structure=index,
                    opened_at=float(anatomy.order[row, column]),
                )
            )
    return found


def _nearest(ratio: NDArray[np.float32], along: NDArray[np.float32], at: float) -> tuple[int, int]:
    row, column = np.unravel_index(int((ratio + 60.0 * np.abs(along - at)).argmin()), ratio.shape)
    return int(row), int(column)


def draw_clip(rgb: Pixels, ends: NDArray[np.float64], *, zoom: float, light: float) -> None:
    """Draw one clip in place; `ends` are its two ends on the screen, 2 x (x, y)."""
    thick = max(round(_THICK * rgb.shape[0] * zoom), 2)
    a, b = (tuple(int(v) for v in np.round(end * 8)) for end in ends)
    steel, shine = (tuple(min(int(v * light), 255) for v in colour) for colour in (_STEEL, _SHINE))
    cv2.line(rgb, a, b, (40, 36, 38), thick + 3, cv2.LINE_AA, 3)
    cv2.line(rgb, a, b, steel, thick, cv2.LINE_AA, 3)
    cv2.line(rgb, a, b, shine, max(thick // 3, 1), cv2.LINE_AA, 3)
