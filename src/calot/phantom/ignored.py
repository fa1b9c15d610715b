"""Pixels of a mask that an annotator would leave undecided: class 255."""

from __future__ import annotations

import cv2
import numpy as np

from calot.phantom.anatomy import TOOL
from calot.phantom.instruments import Pixels

IGNORE = 255
_RIM = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
_BORDER = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))


def with_ignored(mask: Pixels) -> Pixels:
    """The mask with 255 on the rims of its instruments, and on the borders of what is laid open (classes 1 to 4)."""
    found = mask.copy()
    opened = ((mask >= 1) & (mask <= 4)).astype(np.uint8)
    for part, rim in (((mask == TOOL).astype(np.uint8), _RIM), (opened, _BORDER)):
        found[cv2.morphologyEx(part, cv2.MORPH_GRADIENT, rim) > 0] = IGNORE
    return np.asarray(found, np.uint8)
