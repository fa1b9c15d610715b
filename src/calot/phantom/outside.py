"""The camera outside the body: cloth under the theatre's lamps, out of focus."""

from __future__ import annotations

import cv2
import numpy as np

from calot.phantom.instruments import Pixels
from calot.phantom.spec import HEIGHT, WIDTH
from calot.phantom.texture import noise

_CLOTHS = ((0.30, 0.52, 0.62), (0.24, 0.48, 0.44), (0.80, 0.79, 0.76), (0.62, 0.44, 0.36))
_ROOM = 120  # pixels of spare cloth, so that the camera moves over it


class Outside:
    """What one operation's camera sees when it is drawn out and wiped."""

    def __init__(self, *, rng: np.random.Generator) -> None:
        height, width = HEIGHT // 2 + _ROOM, WIDTH // 2 + _ROOM
        folds = noise(rng, shape=(height, width), cell=90, octaves=3)
        cloths = np.asarray(_CLOTHS, np.float32)[rng.choice(len(_CLOTHS), size=2, replace=False)]
        edge = np.clip(noise(rng, shape=(height, width), cell=260, octaves=2) * 3.0 + 0.5, 0, 1)[..., None]
        rgb = (cloths[0] + (cloths[1] - cloths[0]) * edge) * (0.75 + 0.16 * folds)[..., None]
        self._cloth = np.clip(rgb * float(rng.uniform(0.7, 1.15)), 0, 1).astype(np.float32)
        self._at = rng.integers(0, _ROOM, size=2)
        self._blur = float(rng.uniform(2.0, 7.0))

    def frame(self, index: int) -> Pixels:
        """Frame `index`, without the round view's rim: HEIGHT x WIDTH x 3."""
        top, left = ((self._at + np.array((17, 29)) * index) % _ROOM).tolist()
        seen = self._cloth[top : top + HEIGHT // 2, left : left + WIDTH // 2]
        soft = cv2.GaussianBlur(seen, (0, 0), self._blur)
        return np.asarray(cv2.convertScaleAbs(cv2.resize(soft, (WIDTH, HEIGHT)), alpha=255.0), np.uint8)
