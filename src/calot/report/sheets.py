"""Sheets of small pictures for a page: frames, and maps of levels laid over them, as JPEG inside the HTML."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 120


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One picture: a JPEG as a data address, its title, and what it shows in words."""

    title: str
    source: str
    said: str


def jpeg_address(picture: NDArray[np.uint8], *, quality: int = 82) -> str:
    """A picture `(h, w, 3)` as a data address that a page can hold."""
    encoded = BytesIO()
    Image.fromarray(picture).save(encoded, format="JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")


def picture_rows(rows: Sequence[Sequence[NDArray[np.uint8]]], *, side: int = SIDE, gap: int = 3) -> NDArray[np.uint8]:
    """Square pictures in rows, each `side` pixels, on black; rows may differ in length."""
    wide, high = max(len(row) for row in rows), len(rows)
    whole = Image.new("RGB", (wide * (side + gap) - gap, high * (side + gap) - gap), "black")
    for down, row in enumerate(rows):
        for across, one in enumerate(row):
            small = Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR)
            whole.paste(small, (across * (side + gap), down * (side + gap)))
    return np.asarray(whole)


def heat_over(frame: NDArray[np.uint8], level: NDArray[np.floating[Any]], *, side: int = SIDE) -> NDArray[np.uint8]:
    """A map of levels from 0 to 1 laid over a darkened grey frame, at `side` pixels."""
    small = Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR)
    grey = np.asarray(small.convert("L"), dtype=np.float32)[..., None] * 0.45
    raised = Image.fromarray((255 * np.clip(level, 0, 1)).astype(np.uint8))
    heat = np.asarray(raised.resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32)[..., None] / 255
    laid = grey * (1 - 0.6 * heat) + np.array([255.0, 196.0, 0.0], dtype=np.float32) * heat
    return np.clip(laid, 0, 255).astype(np.uint8)
