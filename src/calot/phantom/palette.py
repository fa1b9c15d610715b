"""Colours of one operation: tissues, light and camera, apart from the criteria: colour alone says little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colour = NDArray[np.float32]


@dataclass(frozen=True)
class Palette:
    """RGB 0..1 of one video's tissues; `inflamed` 0..1 turns fat and peritoneum from yellow to raw red."""

    inflamed: float
    liver: Colour
    liver_dark: Colour
    gallbladder: Colour
    gallbladder_low: Colour
    fat: Colour
    cover: Colour
    cover_deep: Colour
    duct: Colour
    artery: Colour
    plate: Colour
    serosa: Colour  # over the plate, before it is laid open
    fascia: Colour
    wall: Colour
    bowel: Colour
    vessel: Colour
    blood: Colour
    raw: Colour  # freshly cut tissue
    light: Colour  # gain by channel: white balance and exposure


def _between(a: tuple[float, float, float], b: tuple[float, float, float], f: float) -> Colour:
    return (np.asarray(a) * (1 - f) + np.asarray(b) * f).astype(np.float32)


def draw_palette(rng: np.random.Generator) -> Palette:
    """One operation's colours; the ranges were set by eye against real frames."""

    def jitter(colour: Colour, spread: float = 0.045) -> Colour:
        return np.asarray(np.clip(colour * np.exp(rng.normal(0, spread, 3)), 0.02, 0.98), np.float32)

    inflamed = float(rng.beta(1.2, 1.2))
    liver = jitter(_between((0.40, 0.15, 0.12), (0.62, 0.27, 0.22), float(rng.beta(1.2, 2.0))))
    gallbladder = _between((0.80, 0.62, 0.52), (0.66, 0.60, 0.64), float(rng.uniform()))
    fat = jitter(_between((0.86, 0.60, 0.36), (0.88, 0.56, 0.40), float(rng.uniform())))
    cover = _between((0.86, 0.60, 0.38), (0.64, 0.34, 0.33), inflamed)
    balance = np.exp(rng.normal(0, (0.04, 0.03, 0.06)))
    return Palette(
        inflamed=inflamed,
        liver=liver,
        liver_dark=np.asarray(liver * 0.62, np.float32),
        gallbladder=jitter(_between(tuple(gallbladder), (0.72, 0.42, 0.38), 0.5 * inflamed)),
        gallbladder_low=jitter(_between((0.84, 0.56, 0.36), (0.62, 0.36, 0.38), float(rng.uniform()))),
        fat=fat,
        cover=jitter(cover * np.float32(rng.uniform(0.80, 1.08))),
        cover_deep=jitter(np.asarray(cover * np.array((0.78, 0.62, 0.52), np.float32))),
        duct=jitter(_between((0.86, 0.74, 0.60), (0.78, 0.70, 0.58), float(rng.uniform()))),
        artery=jitter(np.array((0.82, 0.36, 0.30), np.float32)),
        plate=jitter(_between((0.74, 0.58, 0.56), (0.62, 0.38, 0.37), float(rng.uniform()))),
        serosa=jitter(_between((0.78, 0.56, 0.50), (0.46, 0.22, 0.19), float(rng.uniform()))),
        fascia=jitter(_between((0.34, 0.14, 0.12), (0.50, 0.25, 0.22), float(rng.uniform()))),
        wall=jitter(_between((0.66, 0.40, 0.34), (0.52, 0.26, 0.24), float(rng.uniform()))),
        bowel=jitter(_between((0.80, 0.48, 0.40), (0.84, 0.60, 0.40), float(rng.uniform()))),
        vessel=np.array((0.52, 0.08, 0.09), np.float32),
        blood=jitter(np.array((0.40, 0.03, 0.04), np.float32)),
        raw=jitter(np.array((0.58, 0.20, 0.18), np.float32)),
        light=np.asarray(balance * np.exp(rng.normal(-0.04, 0.13)), np.float32),
    )
