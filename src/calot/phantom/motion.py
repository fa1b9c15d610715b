"""What moves besides the dissection: camera, retraction, instruments, smoke, blood, gauze, focus, exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calot.phantom.dynamics import Floats, State, spells
from calot.phantom.instruments import KINDS
from calot.phantom.texture import smoothstep


@dataclass(frozen=True)
class Track:
    """Series at 1 fps. Positions are in scene units; tools: 0 holds the gallbladder's neck, 1 works from the right."""

    zoom: Floats
    pan: Floats  # n x 2
    roll: Floats
    pull: Floats  # n x 2, of the neck by the holding instrument
    breath: Floats
    tip: Floats  # n x 2 x 2: tool, x y, relative to neck (0) and to the triangle's centre (1)
    angle: Floats  # n x 2
    present: NDArray[np.bool_]  # n x 2
    kind: NDArray[np.int64]  # n x 2, into KINDS
    smoke: Floats
    blood: Floats
    gauze: NDArray[np.bool_]
    blur: Floats
    exposure: Floats


def _segments(rng: np.random.Generator, *, n: int, seconds: float) -> NDArray[np.int64]:
    """A segment number per frame; segments last about that long."""
    return np.cumsum(rng.uniform(size=n) < 1.0 / seconds)


def _events(rng: np.random.Generator, *, n: int, every: float, seconds: float) -> Floats:
    """Rises to 1 and decays, about once in `every` seconds."""
    level = np.zeros(n)
    for start in np.flatnonzero(rng.uniform(size=n) < 1.0 / every):
        shape = np.exp(-np.arange(n - start) / seconds) * rng.uniform(0.4, 1.0)
        level[start:] = np.maximum(level[start:], shape)
    return level


def make_track(state: State, *, rng: np.random.Generator, zoom_spread: float = 1.0) -> Track:
    """Draw one video's motion. Only retraction and the working tip depend on the state, through `view`.

    `zoom_spread` scales how far the camera comes near and goes away within a video.
    """
    n = len(state.view)

    def drift(seconds: float, columns: int = 1) -> Floats:
        series = spells(rng.standard_normal((n, columns)), seconds=seconds)
        return series[:, 0] if columns == 1 else series

    base_zoom, base_roll, base_pan = rng.normal(1.15, 0.09), rng.normal(0, 4.0), rng.normal(0, (0.05, 0.04))
    view, wide = np.tanh(state.view), zoom_spread - 1.0
    pull = np.stack([-0.020 * view, -0.010 * view], axis=1) + 0.012 * drift(8.0, 2)
    part = [_segments(rng, n=n, seconds=s) for s in (60.0, 25.0)]
    there = [rng.uniform(size=p[-1] + 1) < share for p, share in zip(part, (0.85, 0.72), strict=True)]
    kinds = [
        rng.choice(len(KINDS), size=part[0][-1] + 1, p=(0.0, 0.25, 0.75, 0.0)),
        rng.choice(len(KINDS), size=part[1][-1] + 1, p=(0.45, 0.25, 0.12, 0.18)),
    ]
    away = 0.05 + 0.26 * smoothstep(np.asarray(0.5 + 0.45 * view + 0.35 * drift(6.0), np.float32))
    bearing = rng.uniform(-0.9, 0.5) + 0.5 * drift(10.0)
    work = np.stack([away * np.cos(bearing), 0.8 * away * np.sin(bearing)], axis=1) + 0.03 * drift(2.0, 2)
    hold = np.array((-0.10, 0.0)) + 0.02 * rng.standard_normal(2) + 0.006 * drift(5.0, 2)
    return Track(
        zoom=np.clip(
            base_zoom * (1.0 + 0.15 * wide) * np.exp(0.10 * zoom_spread * drift(25.0) + 0.012 * drift(2.0)),
            0.96,
            1.50 + 0.40 * wide,
        ),
        pan=base_pan + (0.050, 0.035) * drift(20.0, 2) + 0.006 * drift(1.5, 2),
        roll=np.deg2rad(base_roll + 4.0 * drift(30.0)),
        pull=pull,
        breath=0.006 * np.sin(2 * np.pi * (0.23 * np.arange(n) + rng.uniform())),
        tip=np.stack([hold, work], axis=1),
        angle=np.stack(
            [np.pi - rng.uniform(-0.15, 0.75) + 0.05 * drift(12.0), rng.uniform(-0.75, 0.35) + 0.10 * drift(10.0)],
            axis=1,
        ),
        present=np.stack([t[p] for t, p in zip(there, part, strict=True)], axis=1),
        kind=np.stack([k[p] for k, p in zip(kinds, part, strict=True)], axis=1),
        smoke=_events(rng, n=n, every=70.0, seconds=5.0),
        blood=np.clip(
            rng.uniform(-0.3, 0.8) + 0.35 * drift(60.0) + 0.5 * _events(rng, n=n, every=120, seconds=25), 0, 1
        ),
        gauze=(rng.uniform(size=part[0][-1] + 1) < 0.35)[part[0]],
        blur=np.clip(1.3 * drift(10.0) - 1.6, 0, 2.0),
        exposure=np.exp(0.10 * drift(20.0)),
    )
