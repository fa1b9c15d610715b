"""A picture's hash that resizing, JPEG and letterboxing leave nearly alone: signs of its lowest cosine coefficients.

The pHash of Zauner (2010) with more bits: a cholecystectomy's frames are alike in 64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from calot.data.sources import Pixels

#: Coefficients kept per axis; bits of a hash are all of them but the mean.
KEPT = 16
BITS = KEPT * KEPT - 1
#: Side of the square that a picture is averaged into first.
_SIDE = 64
#: Grey levels: a border line is darker than this throughout; a picture that varies less says nothing.
_DARK, _FLAT = 24.0, 6.0

Hashes = NDArray[np.uint8]  # n BITS, 0 or 1


def picture_hash(picture: Pixels) -> Hashes | None:
    """The bits of one picture (h w 3), or None for one that is black, flat or nearly so."""
    grey = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    grey = _without_border(grey)
    small = _averaged(grey)
    if float(small.std()) < _FLAT:
        return None
    low = dctn(small, type=2, norm="ortho")[:KEPT, :KEPT].ravel()[1:]
    return np.asarray(low > np.median(low), dtype=np.uint8)


def distances(a: Hashes, b: Hashes) -> NDArray[np.float32]:
    """Share of bits in which each row of `a` differs from each of `b`, `(len(a), len(b))`."""
    signs = [2.0 * bits.astype(np.float32) - 1.0 for bits in (a, b)]
    return np.asarray((1.0 - signs[0] @ signs[1].T / a.shape[1]) / 2.0, dtype=np.float32)


def _without_border(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without dark lines at the edges: a letterbox, or what surrounds an endoscope's round picture."""
    for axis in (0, 1):
        lines = np.flatnonzero(np.percentile(grey, 95, axis=1 - axis) > _DARK)
        if len(lines):
            grey = grey[lines[0] : lines[-1] + 1] if axis == 0 else grey[:, lines[0] : lines[-1] + 1]
    return grey


def _averaged(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over a grid of `_SIDE` x `_SIDE` cells of equal size, whatever the picture's."""
    for axis in (0, 1):
        edges = np.linspace(0, grey.shape[axis], _SIDE + 1)
        total = np.concatenate(
            [np.zeros_like(grey.take([0], axis)), np.cumsum(grey, axis=axis, dtype=np.float64)], axis
        )
        whole, part = edges.astype(int), edges - edges.astype(int)
        after = np.minimum(whole + 1, grey.shape[axis])
        shape = (-1, 1) if axis == 0 else (1, -1)
        at = total.take(whole, axis) * (1 - part.reshape(shape)) + total.take(after, axis) * part.reshape(shape)
        grey = np.diff(at, axis=axis) / (grey.shape[axis] / _SIDE)
    return np.asarray(grey, dtype=np.float32)
