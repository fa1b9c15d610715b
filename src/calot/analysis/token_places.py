"""Masks and attention maps on the token grids of an encoder's layers, which may differ."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from calot.data.maskfolder import SEEN_CLASSES


def class_weights(values: UInt8[Tensor, "b h w"], *, rows: int, columns: int) -> dict[str, Float[Tensor, "b p"]]:
    """By class as masks on disk have them, the share of each place's pixels that are of it; ignored ones: of none.

    A place smaller than a pixel of the mask is all of that pixel's class.
    """
    fine = max(1, -(-rows // values.shape[1]))
    pixels = values.repeat_interleave(fine, dim=1).repeat_interleave(fine, dim=2)
    block = (pixels.shape[1] // rows, pixels.shape[2] // columns)
    return {
        name: F.avg_pool2d((pixels == number).float()[:, None], block).flatten(1)
        for number, name in SEEN_CLASSES.items()
    }


def on_grid(
    maps: NDArray[np.float64], *, grid: tuple[int, int, int], wanted: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Maps `(b, n)` on a coarser grid whose tokens each cover several: their sum, `(b, m)`."""
    (time, rows, columns), (_, down, across) = grid, wanted
    cells = maps.reshape(len(maps), time, down, rows // down, across, columns // across)
    return np.asarray(cells.sum(axis=(3, 5)).reshape(len(maps), -1))
