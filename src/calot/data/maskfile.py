"""A mask's file as class ids: read strictly, so that no picture is mistaken for a mask."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calot.data.decode import read_picture, require_sane_size
from calot.data.pictures import MOST_PIXELS_PER_PNG_BYTE, png_size
from calot.errors import CalotError

#: Grey of 8 or 16 bits, and colour whose channels are equal. Not a palette, whose numbers say nothing of classes.
_MODES = ("L", "I;16", "I", "RGB", "RGBA")
#: Read only to be named: Pillow's other readers are never tried on a file from outside.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF")


def read_class_ids(path: Path) -> NDArray[np.integer]:
    """Class ids `h w`. Raises CalotError if the file is not a PNG of them: a palette, one bit, fractions, a JPEG."""
    data = read_picture(path)
    png_size(data, path=path)
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            kind, mode = image.format, image.mode
            require_sane_size((image.height, image.width), stored=len(data) * MOST_PIXELS_PER_PNG_BYTE, path=path)
            ids = np.asarray(image)
    except (CalotError, MemoryError):
        raise
    except Exception as error:  # Pillow raises many kinds for a file of another format, or a truncated one
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise CalotError(f"{path}: not a readable mask ({reason}). Unpack the archive again.") from error
    if kind != "PNG" or mode not in _MODES:
        raise CalotError(
            f"{path}: a {kind} of mode {mode}, whose numbers need not be class ids. Write it again as a grey PNG."
        )
    if ids.ndim == 3:
        if (ids[..., 1:3] != ids[..., :1]).any():
            raise CalotError(f"{path}: its channels differ; a mask holds one class id per pixel. Write it again.")
        ids = ids[..., 0]
    return ids
