"""Read one JPEG in full, so that a truncated file raises instead of turning grey."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL
import simplejpeg
from numpy.typing import NDArray

from calot.errors import CalotError

#: Pixels depend on these: part of a store's fingerprint.
DECODER = f"simplejpeg {simplejpeg.__version__}, pillow {PIL.__version__}"


def decode_jpeg(path: Path) -> NDArray[np.uint8]:
    """Decode to uint8 `h w 3` RGB, full size and exact (no fast DCT, no fast upsampling): Pillow's pixels."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CalotError(f"{path}: cannot be read ({error.strerror}). Unpack the archive again.") from error
    try:
        image = simplejpeg.decode_jpeg(data, colorspace="RGB", fastdct=False, fastupsample=False, strict=True)
    except ValueError as error:
        raise CalotError(f"{path}: not a whole JPEG ({len(data)} bytes; {error}). Unpack the archive again.") from error
    return np.asarray(image, dtype=np.uint8)
