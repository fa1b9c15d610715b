"""Thin bands of tissue across the triangle: it is wide open early, and what tells is how many still cross it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calot.phantom.texture import Image

#: In this share of the dissection everything between the bands is laid open; they are cut from there to `ALL_CUT`.
CLEARED, ALL_CUT = 0.15, 0.85
HALF_WIDTH = (0.007, 0.010)  # of a band, in units of the picture's height
_SPREAD = 0.17  # how far from the triangle's centre the outermost band crosses


@dataclass(frozen=True)
class Strands:
    """The triangle's order of dissection with its bands, and their opacity on the canvas."""

    order: Image
    opacity: Image


def cut_at(count: int) -> NDArray[np.float64]:
    """The share of the dissection at which each of `count` bands is cut."""
    return CLEARED + (ALL_CUT - CLEARED) * (np.arange(count) + 0.5) / count


def strands_of(
    where: NDArray[np.bool_],
    *,
    order: Image,
    count: int,
    rng: np.random.Generator,
    grid: tuple[Image, Image],
    centre: tuple[float, float],
) -> Strands:
    """Lay `count` bands over the triangle's pixels `where`; each is cut at once, beginning in its middle."""
    x, y = grid[0] - centre[0], grid[1] - centre[1]
    order, opacity = order.copy(), np.zeros(order.shape, np.float32)
    order[where] *= CLEARED
    places = _SPREAD * (2.0 * (rng.permutation(count) + rng.uniform(0.25, 0.75, count)) / count - 1.0)
    for place, cut in zip(places, cut_at(count), strict=True):
        tilt, bow = rng.normal(0, 0.35), rng.normal(0, 0.6)
        across = (x - place) * np.cos(tilt) + y * np.sin(tilt)
        along = y * np.cos(tilt) - (x - place) * np.sin(tilt)
        thick = float(rng.uniform(*HALF_WIDTH)) * (1.0 + 6.0 * along * along)
        distance = np.abs(across + bow * along * along) / thick
        band = where & (distance < 1.0)
        order[band] = np.maximum(order[band], cut + 0.02 * np.minimum(np.abs(along[band]) / 0.2, 1.0))
        np.maximum(opacity, np.where(where, np.clip(1.4 - distance, 0, 1), 0).astype(np.float32), out=opacity)
    return Strands(order, opacity)
