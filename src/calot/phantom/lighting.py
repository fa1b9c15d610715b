"""The tissue of one frame: mix the two painted states by the dissection, spill blood, lay gauze, and light it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calot.phantom.anatomy import LEFT, SCALE, SHAPE, TOP
from calot.phantom.scene import Scene
from calot.phantom.texture import Image

_SOFT = 0.06  # width of a dissection's rim, in shares of its region
_AMBIENT, _OBLIQUE = 0.26, 0.55  # light from everywhere; how fast the lamp's direction turns across the scene
_SHARP, _BROAD = 90.0, 9.0  # exponents of the wet highlight and of the sheen around it

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Moment:
    """What the tissue of one frame depends on: open shares by structure, blood 0..1, gauze, lamp place, gain."""

    exposure: NDArray[np.float64]
    blood: float
    gauze: bool
    lamp: tuple[float, float]
    gain: NDArray[np.float32]


def open_share(scene: Scene, *, exposure: NDArray[np.float64], at: Box) -> Image:
    """How far each canvas pixel in `at` is laid open, 0 covered .. 1 open."""
    shares = np.concatenate([[-1.0], exposure * (1 + _SOFT) - _SOFT / 2]).astype(np.float32)
    gap = (shares[scene.anatomy.region[at]] - scene.anatomy.order[at]) / np.float32(_SOFT) + np.float32(0.5)
    return np.asarray(cv2.GaussianBlur(np.clip(gap, 0, 1), (3, 3), 0), np.float32)


def _overlap(a: slice, b: slice) -> slice:
    return slice(max(a.start, b.start), min(a.stop, b.stop))


class Tissue:
    """Lights any part of one scene's canvas."""

    def __init__(self, scene: Scene, *, shine: float) -> None:
        self._scene, self._shine = scene, shine
        y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]].astype(np.float32)
        self._x, self._y = x / SCALE + LEFT, y / SCALE + TOP

    def lit(self, box: Box, *, moment: Moment) -> Image:
        """The lit canvas within `box`, RGB in 0..255 floats."""
        scene, covered = self._scene, self._scene.covered
        rgb, nx, ny = covered.rgb[box].copy(), covered.nx[box].copy(), covered.ny[box].copy()
        gloss = covered.gloss[box]
        at = _overlap(scene.window[0], box[0]), _overlap(scene.window[1], box[1])
        if at[0].start < at[0].stop and at[1].start < at[1].stop:
            inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(at, box, strict=True))
            self._dissect(rgb[inner], nx[inner], ny[inner], at=at, exposure=moment.exposure)
        if moment.blood > 0.02:
            stain = np.clip((scene.bloodiness[box] + 1.9 * moment.blood - 2.6) * 1.6, 0, 0.85)
            rgb += (scene.palette.blood - rgb) * stain[..., None]
            gloss = gloss + 0.35 * stain
        if moment.gauze:
            rgb += (scene.gauze_rgb[box] - rgb) * scene.gauze[box][..., None]
            gloss = gloss * (1.0 - scene.gauze[box])
        return self._shaded(rgb, nx, ny, gloss, box=box, moment=moment)

    def _dissect(self, rgb: Image, nx: Image, ny: Image, *, at: Box, exposure: NDArray[np.float64]) -> None:
        """Write the mixture of the two states over the covered one; the rim of a window is raw and stands up."""
        scene = self._scene
        share = open_share(scene, exposure=exposure, at=at)
        near = cv2.GaussianBlur(share, (0, 0), 4)
        under = scene.opened.rgb[at] * (0.55 + 0.45 * near)[..., None]
        rim = (1.1 * near * (1.0 - share))[..., None]
        if scene.anatomy.strands is not None:  # bands of pale tissue, which stay pale where they stand alone
            band = scene.anatomy.strands[at][..., None] * near[..., None]
            rim = rim * (1.0 - 0.8 * band)
            rgb += (scene.palette.duct - rgb) * (0.75 * band)
        over = rgb + (scene.palette.raw - rgb) * rim
        rgb[...] = over + (under - over) * share[..., None]
        for normal, opened, axis in ((nx, scene.opened.nx, (1, 0)), (ny, scene.opened.ny, (0, 1))):
            normal += (opened[at] - normal) * share
            normal += cv2.Sobel(near, cv2.CV_32F, *axis, ksize=3, scale=0.55)

    def _shaded(self, rgb: Image, nx: Image, ny: Image, gloss: Image, *, box: Box, moment: Moment) -> Image:
        """Diffuse light and wet highlights of a lamp beside the camera."""
        to_x = (moment.lamp[0] - self._x[box]) * _OBLIQUE
        to_y = (moment.lamp[1] - self._y[box]) * _OBLIQUE
        steep = nx * nx + ny * ny
        along = nx * to_x + ny * to_y
        facing = cv2.sqrt(np.maximum(1.0 - steep, 0.02))
        diffuse = np.maximum(_AMBIENT + (1 - _AMBIENT) * (facing + along), 0.05)
        # |n - h|^2 with h, half way from the eye to the lamp: the nearer to the mirror direction, the brighter
        off = steep - along + 0.25 * (to_x * to_x + to_y * to_y)
        glare = (cv2.exp(off * -_SHARP) + 0.16 * cv2.exp(off * -_BROAD)) * gloss * (150.0 * self._shine)
        lit = cv2.multiply(rgb, cv2.merge([diffuse * float(g) for g in moment.gain]))
        return np.asarray(cv2.add(lit, cv2.merge([glare.astype(np.float32)] * 3)), np.float32)
