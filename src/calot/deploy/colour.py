"""Whether a frame shows the inside of a body, by its colour alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Red over green of the lit part of a frame below which it is taken for one from outside the body. On the phantom no
#: frame from inside is below 1.2; those from outside have a median of 0.85 and a 95th percentile of 1.28.
OUTSIDE_RED = 1.15
#: Pixels whose brightest channel is above this (of 255) are lit.
_LIT = 40


def red_over_green(image: NDArray[np.uint8]) -> float:
    """Sum of red over sum of green of a frame's lit pixels, `h w 3`; 0 where none is lit."""
    lit = image.max(axis=2) > _LIT
    green = int(image[..., 1][lit].sum())
    return float(int(image[..., 0][lit].sum()) / green) if green else 0.0
