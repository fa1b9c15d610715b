"""One image file of the kinds that are read: JPEG, and PNG of 8 bits; chosen by the name's ending."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calot.data.decode import decode_jpeg_bytes, jpeg_size, read_picture, require_sane_size
from calot.errors import CalotError, first_line

_PNG = b"\x89PNG\r\n\x1a\n"
#: Deflate expands one byte to at most 1,032; a one-bit picture has 8 pixels per byte.
MOST_PIXELS_PER_PNG_BYTE = 8 * 1032


def decode_picture(path: Path) -> NDArray[np.uint8]:
    """Decode in full to uint8 `h w 3` RGB: Pillow's pixels."""
    return decode_picture_bytes(read_picture(path), path=path)


def decode_picture_bytes(data: bytes, *, path: Path) -> NDArray[np.uint8]:
    """As `decode_picture`, from bytes in memory."""
    return decode_png(data, path=path) if _is_png(path) else decode_jpeg_bytes(data, path=path)


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width, from the header."""
    data = read_picture(path)
    if not _is_png(path):
        return jpeg_size(data, path=path)
    size = png_size(data, path=path)
    if size is None:
        raise CalotError(f"{path}: not a PNG, though its name says so. Write it again.")
    return size


def png_size(data: bytes, *, path: Path) -> tuple[int, int] | None:
    """Height and width in a PNG's header, or None where there is none. Raises CalotError where they are absurd, before
    Pillow does, which warns of large pictures in its own words."""
    if not data.startswith(_PNG) or len(data) < 24:
        return None
    width, height = struct.unpack(">II", data[16:24])
    require_sane_size((height, width), stored=len(data) * MOST_PIXELS_PER_PNG_BYTE, path=path)
    return height, width


def decode_png(data: bytes, *, path: Path) -> NDArray[np.uint8]:
    """As RGB; transparency, palettes and 16 bits are refused: their meaning is ambiguous."""
    png_size(data, path=path)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            mode = image.mode
            if mode in ("L", "RGB"):
                return np.asarray(image.convert("RGB"))
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many kinds for a file that is cut
        raise CalotError(f"{path}: not a whole PNG ({first_line(error)}). Write it again.") from error
    raise CalotError(f"{path}: a PNG of mode {mode}. Write it again as RGB of 8 bits.")


def _is_png(path: Path) -> bool:
    return path.suffix.lower() == ".png"
