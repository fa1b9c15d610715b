"""Read one JPEG in full, header first, so that a truncated file raises instead of turning grey."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from calot.errors import CalotError
from calot.reading import LARGEST_PICTURE, read_plain

#: Pixels depend on these: part of a store's fingerprint.
DECODER = f"simplejpeg {simplejpeg.__version__}, pillow {PIL.__version__}"

#: A picture of 8K video has 33 million pixels. More are refused before memory is asked for.
MOST_PIXELS = 40_000_000
#: A baseline or progressive JPEG spends a bit on each block of 64 pixels at least: 512 pixels per byte.
_MOST_PIXELS_PER_BYTE = 1024

_ORIENTATION = 274

_AGAIN = "Unpack the archive again."


def decode_jpeg(path: Path) -> NDArray[np.uint8]:
    """Decode to uint8 `h w 3` RGB, full size and exact (no fast DCT, no fast upsampling): Pillow's pixels."""
    return decode_jpeg_bytes(read_picture(path), path=path)


def read_picture(path: Path) -> bytes:
    """The bytes of a picture's file. Raises CalotError where it is not a readable regular file."""
    try:
        return read_plain(path, largest=LARGEST_PICTURE)
    except OSError as error:
        raise CalotError(f"{path}: cannot be read ({error.strerror}). {_AGAIN}") from error


def decode_jpeg_bytes(data: bytes, *, path: Path) -> NDArray[np.uint8]:
    """As `decode_jpeg`, from bytes in memory; `path` is for messages."""
    jpeg_size(data, path=path)
    try:
        image = simplejpeg.decode_jpeg(data, colorspace="RGB", fastdct=False, fastupsample=False, strict=True)
    except ValueError as error:
        raise CalotError(f"{path}: not a whole JPEG ({len(data)} bytes; {error}). {_AGAIN}") from error
    return np.asarray(image, dtype=np.uint8)


def jpeg_size(data: bytes, *, path: Path) -> tuple[int, int]:
    """Height and width in a JPEG's header. Raises CalotError where no whole picture of that size can follow."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise CalotError(f"{path}: not a whole JPEG ({len(data)} bytes; {error}). {_AGAIN}") from error
    require_sane_size((height, width), stored=len(data) * _MOST_PIXELS_PER_BYTE, path=path)
    return height, width


def is_turned(data: bytes) -> bool:
    """Whether a JPEG's EXIF asks for an orientation other than that of its stored pixels."""
    if b"Exif\0\0" not in data[:65536]:
        return False
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    except Exception:  # a damaged EXIF block says nothing
        return False


def require_sane_size(size: tuple[int, int], *, stored: int, path: Path) -> None:
    """Refuse a picture whose header claims more pixels than its file can hold (`stored`), or than are ever read."""
    height, width = size
    if height * width > min(MOST_PIXELS, stored):
        most = f"at most {MOST_PIXELS:,} are read" if height * width > MOST_PIXELS else "its file is too small for them"
        raise CalotError(
            f"{path}: its header claims {height:,} x {width:,} pixels; {most}. Nothing was decoded. {_AGAIN}"
        )
