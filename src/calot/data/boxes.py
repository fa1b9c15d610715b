"""Rectangles laid over a clip and its masks alike, in whole cells of a grid: what erasing and CutMix cut out."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Shaped
from torch import Tensor

from calot.types import Batch


@dataclass(frozen=True)
class Box:
    """Rows `top` to `bottom` and columns `left` to `right` (ends excluded) of a `grid` of (rows, columns)."""

    top: int
    bottom: int
    left: int
    right: int
    grid: tuple[int, int]

    @classmethod
    def nearest(cls, *, top: float, left: float, height: float, width: float, grid: tuple[int, int]) -> Box:
        """The box of whole cells, at least one, nearest to one given in fractions of the sides."""
        rows, columns = grid
        first_row, last_row = _cells(top, height, count=rows)
        first_column, last_column = _cells(left, width, count=columns)
        return cls(first_row, last_row, first_column, last_column, grid)

    @property
    def share(self) -> float:
        """The part of the whole area that lies inside."""
        rows, columns = self.grid
        return (self.bottom - self.top) * (self.right - self.left) / (rows * columns)

    def view(self, image: Shaped[Tensor, "... h w"]) -> Shaped[Tensor, "... y x"]:
        """The part of an image inside the box; writing to it writes to the image."""
        rows, columns = (side // count for side, count in zip(image.shape[-2:], self.grid, strict=True))
        return image[..., self.top * rows : self.bottom * rows, self.left * columns : self.right * columns]


def grid_of(batch: Batch) -> tuple[int, int]:
    """The finest grid whose cells are whole pixels of frames and masks: the mask pixels, where there are masks."""
    image = batch.video if batch.masks is None else batch.masks.values
    return image.shape[-2], image.shape[-1]


def _cells(start: float, length: float, *, count: int) -> tuple[int, int]:
    first = min(max(round(start * count), 0), count - 1)
    return first, min(max(round((start + length) * count), first + 1), count)
