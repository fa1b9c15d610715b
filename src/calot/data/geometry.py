"""How a frame becomes a square: antialiased bilinear for images, as V-JEPA 2's processor does, nearest for masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calot.config.component import Component
from calot.config.fields import Range, Size
from calot.errors import CalotError

Array = NDArray[np.uint8]
_SMOOTH = Image.Resampling.BILINEAR
_NEAREST = Image.Resampling.NEAREST


class Geometry(Component, ABC):
    """`uint8 h w 3 -> uint8 size size 3`, and the same view of a mask (`h w`), whose classes never blend."""

    @abstractmethod
    def __call__(self, image: Array, *, size: int) -> Array:
        """The frame as a square of `size` pixels."""

    @abstractmethod
    def resize_mask(self, mask: Array, *, size: int) -> Array:
        """The mask seen the same way."""


@dataclass(frozen=True)
class Squash(Geometry):
    """The whole frame, its aspect ratio not kept (the documented way)."""

    def __call__(self, image: Array, *, size: int) -> Array:
        return self._resize(image, size=size, resample=_SMOOTH)

    def resize_mask(self, mask: Array, *, size: int) -> Array:
        return self._resize(mask, size=size, resample=_NEAREST)

    def _resize(self, image: Array, *, size: int, resample: Image.Resampling) -> Array:
        return np.asarray(Image.fromarray(image).resize((size, size), resample))


@dataclass(frozen=True)
class CentreCrop(Geometry):
    """The middle `crop x crop` pixels: on a 480 x 854 frame, 480 keeps the height and drops the sides."""

    crop: Size = 480

    def __call__(self, image: Array, *, size: int) -> Array:
        return self._resize(image, size=size, resample=_SMOOTH)

    def resize_mask(self, mask: Array, *, size: int) -> Array:
        return self._resize(mask, size=size, resample=_NEAREST)

    def _resize(self, image: Array, *, size: int, resample: Image.Resampling) -> Array:
        middle = Image.fromarray(_middle(image, side=self.crop, field="CentreCrop.crop"))
        return np.asarray(middle.resize((size, size), resample))


@dataclass(frozen=True)
class ShortSideCrop(Geometry):
    """Short side to `size * short_side_ratio` (rounded down), then the middle: V-JEPA 2's official 292 -> 256."""

    short_side_ratio: Annotated[float, Range(ge=1, le=16)] = 256 / 224

    def __call__(self, image: Array, *, size: int) -> Array:
        return self._resize(image, size=size, resample=_SMOOTH)

    def resize_mask(self, mask: Array, *, size: int) -> Array:
        return self._resize(mask, size=size, resample=_NEAREST)

    def _resize(self, image: Array, *, size: int, resample: Image.Resampling) -> Array:
        height, width = image.shape[:2]
        short = int(size * self.short_side_ratio)
        scaled = (short * width // min(height, width), short * height // min(height, width))
        resized = np.asarray(Image.fromarray(image).resize(scaled, resample))
        return _middle(resized, side=size, field="ShortSideCrop.size")


def _middle(image: Array, *, side: int, field: str) -> Array:
    height, width = image.shape[:2]
    if side < 1 or side > min(height, width):
        raise CalotError(
            f"{field}={side} does not fit a frame of {height} x {width}. Use at most {min(height, width)}."
        )
    top, left = round((height - side) / 2), round((width - side) / 2)
    return np.ascontiguousarray(image[top : top + side, left : left + side])
