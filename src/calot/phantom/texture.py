"""Noise, cells, vessels and relief: the material that tissues are painted from, once per video."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


def noise(
    rng: np.random.Generator, *, shape: tuple[int, int], cell: float, octaves: int = 4, decay: float = 0.5
) -> Image:
    """Fractal value noise of mean about 0 and standard deviation about 1; `cell` is the coarsest feature in pixels."""
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        size = max(cell / 2**octave, 1.0)
        grid = rng.standard_normal((int(height / size) + 3, int(width / size) + 3)).astype(np.float32)
        big = cv2.resize(
            grid, (int(grid.shape[1] * size) + 1, int(grid.shape[0] * size) + 1), interpolation=cv2.INTER_CUBIC
        )
        top, left = int(size * 0.5), int(size * 0.5)
        total += decay**octave * big[top : top + height, left : left + width]
    return np.asarray((total - total.mean()) / (total.std() + 1e-6), np.float32)


def lobules(rng: np.random.Generator, *, shape: tuple[int, int], cell: float) -> Image:
    """Fat lobules: domes over jittered points about `cell` pixels apart, 1 on top and 0 in the creases."""
    height, width = shape
    rows, columns = int(height / cell) + 2, int(width / cell) + 2
    y, x = np.mgrid[0:rows, 0:columns] + rng.uniform(0.1, 0.9, (2, rows, columns))
    points = np.ones(shape, np.uint8)
    points[np.clip(y * cell, 0, height - 1).astype(int), np.clip(x * cell, 0, width - 1).astype(int)] = 0
    distance = cv2.distanceTransform(points, cv2.DIST_L2, 5) / (0.75 * cell)
    domes = np.clip(1.0 - distance * distance, 0.0, 1.0).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(domes, (0, 0), 0.12 * cell), np.float32)


def vessels(
    rng: np.random.Generator, *, shape: tuple[int, int], count: int, length: float, width: float = 1.0
) -> Image:
    """Branching capillaries as an opacity 0..1: random walks of about `length` pixels that fork and thin out."""
    canvas = np.zeros(shape, np.uint8)
    height, columns = shape
    stack = [
        (rng.uniform(0, columns), rng.uniform(0, height), rng.uniform(0, 2 * np.pi), length, width * 1.5)
        for _ in range(count)
    ]
    while stack:
        x, y, angle, left, thick = stack.pop()
        steps = max(int(left / 4), 2)
        angles = angle + np.cumsum(rng.normal(0, 0.22, steps))
        path = np.stack([x + np.cumsum(4 * np.cos(angles)), y + np.cumsum(4 * np.sin(angles))], axis=1)
        points = np.round(path * 8).astype(np.int32).reshape(-1, 1, 2)
        shade = int(np.clip(120 + 90 * thick, 60, 255))
        cv2.polylines(canvas, [points], False, shade, max(round(thick), 1), cv2.LINE_AA, 3)
        if left > length * 0.3:
            for _ in range(2):
                at = int(rng.integers(steps // 2, steps))
                turn = angles[at] + rng.choice([-1, 1]) * rng.uniform(0.3, 0.9)
                stack.append((path[at, 0], path[at, 1], turn, left * rng.uniform(0.4, 0.7), thick * 0.7))
    return np.asarray(cv2.GaussianBlur(canvas.astype(np.float32) / 255.0, (0, 0), 0.6), np.float32)


def slopes(height: Image) -> tuple[Image, Image]:
    """The surface normal's x and y for a relief in pixels."""
    dx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    dy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    norm = 1.0 / np.sqrt(1.0 + dx * dx + dy * dy)
    return -dx * norm, -dy * norm


def smoothstep(x: Image) -> Image:
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def mix(below: Image, above: Image, opacity: Image) -> Image:
    """Paint `above` over `below` with a one-channel opacity."""
    if below.ndim == 3:
        opacity = opacity[..., None]
    return below + (above - below) * opacity
