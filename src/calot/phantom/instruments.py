"""Instruments as sprites: drawn once per video along +u with the tip at a known point, then turned into each frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calot.phantom.texture import Image

LENGTH, BREADTH = 900, 190
TIP = (14.0, BREADTH / 2)
KINDS = ("hook", "dissector", "grasper", "suction")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Sprite:
    """Premultiplied RGBA of an instrument; its tip lies at `TIP`, its shaft runs to the right edge."""

    kind: str
    rgba: Pixels
    opacity: Pixels


def _bar(u: Image, v: Image, *, stops: tuple[float, ...], radii: tuple[float, ...]) -> tuple[Image, Image]:
    """Opacity and -1..1 position across a bar whose half-width follows (stops, radii) along u."""
    radius = np.interp(u, stops, radii).astype(np.float32)
    inside = np.clip(radius - np.abs(v) + 0.5, 0, 1) * (u >= stops[0]) * (u <= stops[-1])
    return inside.astype(np.float32), np.clip(v / np.maximum(radius, 1e-3), -1, 1)


def _metal(colour: tuple[float, float, float], across: Image, *, shine: float) -> Image:
    """A cylinder lit from the camera's side, with one sharp and one broad streak of light."""
    body = 0.22 + 0.78 * np.sqrt(np.clip(1 - across**2, 0, 1))
    streak = shine * (np.exp(-((across + 0.35) ** 2) / 0.02) + 0.35 * np.exp(-((across - 0.45) ** 2) / 0.06))
    return np.asarray(np.asarray(colour, np.float32) * body[..., None] + streak[..., None], np.float32)


class _Bench:
    """Collects painted parts into one RGBA."""

    def __init__(self) -> None:
        v, u = np.mgrid[0:BREADTH, 0:LENGTH].astype(np.float32)
        self.u, self.v = u - TIP[0], v - TIP[1]
        self.rgb = np.zeros((BREADTH, LENGTH, 3), np.float32)
        self.alpha = np.zeros((BREADTH, LENGTH), np.float32)

    def add(self, alpha: Image, rgb: Image) -> None:
        self.rgb = self.rgb * (1 - alpha[..., None]) + rgb * alpha[..., None]
        self.alpha = self.alpha * (1 - alpha) + alpha

    def cut(self, hole: Image) -> None:
        self.rgb *= (1 - hole)[..., None]
        self.alpha *= 1 - hole

    def shaft(self, start: float, *, radius: float, grey: float, shine: float) -> None:
        alpha, across = _bar(self.u, self.v, stops=(start, LENGTH), radii=(radius, radius * 1.55))
        self.add(alpha, _metal((grey, grey * 1.02, grey * 1.05), across, shine=shine))

    def collar(self, start: float, stop: float, *, radius: float, colour: tuple[float, float, float]) -> None:
        alpha, across = _bar(self.u, self.v, stops=(start, stop), radii=(radius, radius))
        self.add(alpha, _metal(colour, across, shine=0.45))


def _hook(bench: _Bench, grey: float) -> None:
    bench.shaft(84, radius=27, grey=grey, shine=0.10)
    alpha, across = _bar(bench.u, bench.v, stops=(24, 96), radii=(8, 27))
    bench.add(alpha, _metal((0.93, 0.90, 0.86), across, shine=0.10))
    wire, across = _bar(bench.u, bench.v, stops=(0, 34), radii=(4.5, 4.5))
    bench.add(wire, _metal((0.62, 0.58, 0.55), across, shine=0.4))
    bend, across = _bar(bench.v, bench.u - 3, stops=(-3, 21), radii=(5, 3.5))
    bench.add(bend, _metal((0.60, 0.55, 0.52), across, shine=0.4))


def _jaws(bench: _Bench, *, length: float, gape: float, tip: float, root: float, window: bool) -> None:
    for side in (-1.0, 1.0):
        middle = side * (gape * np.clip(1 - bench.u / length, 0, 1) ** 1.3 + root * 0.45)
        alpha, across = _bar(bench.u, bench.v - middle, stops=(0, 8, length), radii=(tip * 0.6, tip, root * 0.6))
        ridges = 1.0 - 0.16 * (np.sin(bench.u * 0.8) > 0.2) * (np.abs(across) < 0.5)
        bench.add(alpha, _metal((0.66, 0.66, 0.67), across, shine=0.42) * ridges[..., None])
        if window:
            hole, _ = _bar(bench.u, bench.v - middle, stops=(18, 30, length - 26, length - 14), radii=(1, 6, 6, 1))
            bench.cut(hole)


def _grasper(bench: _Bench, grey: float) -> None:
    bench.shaft(128, radius=29, grey=grey, shine=0.16)
    bench.collar(104, 140, radius=27, colour=(0.58, 0.58, 0.60))
    _jaws(bench, length=112, gape=5, tip=13, root=22, window=True)


def _dissector(bench: _Bench, grey: float) -> None:
    bench.shaft(100, radius=25, grey=grey, shine=0.14)
    bench.collar(72, 108, radius=22, colour=(0.62, 0.60, 0.58))
    _jaws(bench, length=80, gape=14, tip=5, root=18, window=False)


def _suction(bench: _Bench, grey: float) -> None:
    del grey  # always bright steel
    alpha, across = _bar(bench.u, bench.v, stops=(0, 6, LENGTH), radii=(19, 23, 36))
    bench.add(alpha, _metal((0.80, 0.80, 0.80), across, shine=0.30))
    for at in (34, 78, 122):
        dark = np.clip(6.0 - np.hypot((bench.u - at) / 1.5, bench.v - 3), 0, 1)
        bench.add(dark.astype(np.float32), np.full((BREADTH, LENGTH, 3), 0.06, np.float32))


_DRAW: dict[str, Callable[[_Bench, float], None]] = {
    "hook": _hook,
    "dissector": _dissector,
    "grasper": _grasper,
    "suction": _suction,
}


def make_sprite(kind: str, *, rng: np.random.Generator, light: NDArray[np.float32]) -> Sprite:
    """Draw one instrument in this video's light; shafts are dark, grey or steel."""
    bench = _Bench()
    _DRAW[kind](bench, float(rng.choice((0.16, 0.24, 0.38, 0.52))))
    scratches = rng.normal(0, 0.025, (1, LENGTH, 1)) + rng.normal(0, 0.012, (BREADTH, LENGTH, 1))
    rgb = bench.rgb * (1 + scratches) * light
    if kind != "suction":  # soot and blood near the tip
        near = np.exp(-np.clip(bench.u, 0, None) / 60.0)
        stain = cv2.GaussianBlur(rng.normal(0, 1, (BREADTH, LENGTH)).astype(np.float32), (0, 0), 7) * 12
        stain = np.clip(stain, 0, 1)[..., None] * 0.7 * near[..., None]
        rgb = rgb * (1 - stain) + np.array((0.30, 0.05, 0.04), np.float32) * bench.alpha[..., None] * stain
    rgba = np.concatenate([np.clip(rgb, 0, bench.alpha[..., None]), bench.alpha[..., None]], axis=2)
    pixels = np.round(rgba * 255).astype(np.uint8)
    return Sprite(kind, pixels, np.ascontiguousarray(pixels[..., 3]))


def placement(*, tip: tuple[float, float], angle: float, scale: float) -> NDArray[np.float64]:
    """The sprite-to-picture matrix that puts the tip there, the shaft leaving towards `angle` (y down)."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array(((c, -s, tip[0] - c * TIP[0] + s * TIP[1]), (s, c, tip[1] - s * TIP[0] - c * TIP[1])))


def stamp(picture: Pixels, tools: Pixels | None, *, sprite: Sprite, matrix: NDArray[np.float64]) -> None:
    """Draw a sprite into the picture in place, and into the instruments' mask where there is one."""
    height, width = picture.shape[:2]
    corners = np.array(((0, 0, 1), (LENGTH, 0, 1), (0, BREADTH, 1), (LENGTH, BREADTH, 1)))
    spots = corners @ matrix.T
    x0, y0 = np.clip(np.floor(spots.min(axis=0)).astype(int), 0, (width, height))
    x1, y1 = np.clip(np.ceil(spots.max(axis=0)).astype(int), 0, (width, height))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    moved = matrix.copy()
    moved[:, 2] -= (x0, y0)
    drawn = cv2.warpAffine(sprite.rgba, moved, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR)
    patch = picture[y0:y1, x0:x1]
    opacity = drawn[..., 3]
    rest = cv2.merge([255 - opacity] * 3)
    picture[y0:y1, x0:x1] = cv2.add(cv2.multiply(patch, rest, scale=1 / 255), np.ascontiguousarray(drawn[..., :3]))
    if tools is not None:
        np.maximum(tools[y0:y1, x0:x1], opacity, out=tools[y0:y1, x0:x1])
