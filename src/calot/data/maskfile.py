"""A mask's file as class ids: read strictly, so that no picture is taken for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calot.errors import CalotError

#: Grey of 8 or 16 bits, and colour whose channels are equal. Not a palette, whose numbers say nothing of classes.
_MODES = ("L", "I;16", "I", "RGB", "RGBA")


def read_class_ids(path: Path) -> NDArray[np.integer]:
    """Class ids `h w`. Raises CalotError where the file is no PNG of them: a palette, one bit, fractions, a JPEG."""
    try:
        with Image.open(path) as image:
            kind, mode, ids = image.format, image.mode, np.asarray(image)
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise CalotError(f"{path}: not a readable mask ({reason}). Unpack the archive again.") from error
    if kind != "PNG" or mode not in _MODES:
        raise CalotError(
            f"{path}: a {kind} of mode {mode}, whose numbers need not be class ids. Write it again as a grey PNG."
        )
    if ids.ndim == 3:
        if (ids[..., 1:3] != ids[..., :1]).any():
            raise CalotError(f"{path}: its channels differ; a mask holds one class id a pixel. Write it again.")
        ids = ids[..., 0]
    return ids
