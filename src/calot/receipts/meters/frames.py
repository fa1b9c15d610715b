"""Meters of augmentation: what happened to a clip's frames and masks, seen from the pixels before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from math import isnan, log, nan

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from calot.data.augmentations import ColourJitter, GaussianBlur, RandomErasing, Rotation
from calot.data.transforms import Augmentation, HorizontalFlip
from calot.receipts.meters.band import DoseBand, Values, never, share, size_of_uniform, uniform
from calot.types import IGNORED, Batch

_SIDE = 32  # angles are read off pictures of this size
_GREY = torch.tensor((0.299, 0.587, 0.114))
_FIXED = "largest difference between the frames of a still clip"


@dataclass(frozen=True)
class Meter:
    """Bands of some readings, and how values for them are taken from clips before and after."""

    bands: dict[str, DoseBand]
    read: Callable[[Batch, Batch], Values]


@singledispatch
def meter(component: Augmentation) -> Meter:
    """An augmentation that nobody knows here must change something."""

    def read(before: Batch, after: Batch) -> Values:
        apart = (after.video.float() - before.video.float()).abs().flatten(1).mean(dim=1) / 255
        return {"mean change (share of the grey levels)": apart.tolist()}

    return Meter({"mean change (share of the grey levels)": DoseBand(0.5005, slack=0.4995)}, read)


@meter.register
def _(component: HorizontalFlip) -> Meter:
    def read(before: Batch, after: Batch) -> Values:
        values: Values = {"share mirrored": [], "neither as it was nor mirrored": [], "masks that did not follow": []}
        for i in range(len(before)):
            clip, now = before.video[i], after.video[i]
            mirror = clip.flip(-1)
            if torch.equal(clip, mirror):
                continue
            flipped = torch.equal(now, mirror)
            values["share mirrored"].append(float(flipped))
            values["neither as it was nor mirrored"].append(float(not flipped and not torch.equal(now, clip)))
            if before.masks is not None and after.masks is not None:
                mask = before.masks.values[i]
                follows = torch.equal(after.masks.values[i], mask.flip(-1) if flipped else mask)
                values["masks that did not follow"].append(float(not follows))
        return values

    none = never()
    return Meter(
        {
            "share mirrored": share(component.probability),
            "neither as it was nor mirrored": none,
            "masks that did not follow": none.optional(),
        },
        read,
    )


@meter.register
def _(component: Rotation) -> Meter:
    degrees = component.degrees

    def read(before: Batch, after: Batch) -> Values:
        angles = [_angle(before.video[i, 0], after.video[i, 0], most=degrees) for i in range(len(before))]
        return {"angle in degrees, without its sign": [abs(a) for a in angles], "angle in degrees": angles}

    slack = 0.08 * degrees + 0.25
    return Meter(
        {
            "angle in degrees, without its sign": size_of_uniform(degrees, slack=slack),
            "angle in degrees": DoseBand(0.0, sd=degrees / 3**0.5, slack=slack),
        },
        read,
    )


def _angle(before: Tensor, after: Tensor, *, most: float) -> float:
    """The angle whose turn of the frame before is nearest to the frame after; of both, the middle circle counts."""
    if torch.equal(before, after) or most <= 0:
        return 0.0
    old, new = (_small(frame) for frame in (before, after))
    coarse = _nearest(old, new, torch.linspace(-most, most, 13))
    step = most / 6
    return _nearest(old, new, torch.linspace(coarse - step, coarse + step, 9))


def _small(frame: Tensor) -> Tensor:
    grey = (frame.float().cpu() * _GREY[:, None, None]).sum(dim=0)[None, None]
    return F.interpolate(grey, size=(_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False)


def _nearest(old: Tensor, new: Tensor, angles: Tensor) -> float:
    cos, sin = torch.cos(torch.deg2rad(angles)), torch.sin(torch.deg2rad(angles))
    zero = torch.zeros_like(cos)
    turns = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    where = F.affine_grid(turns, [len(angles), 1, _SIDE, _SIDE], align_corners=False)
    turned = F.grid_sample(old.expand(len(angles), -1, -1, -1), where, align_corners=False)
    line = torch.linspace(-1, 1, _SIDE)
    disc = (line[:, None] ** 2 + line[None] ** 2) < 0.8
    return float(angles[((turned - new)[..., disc] ** 2).mean(dim=(1, 2)).argmin()])


@meter.register
def _(component: ColourJitter) -> Meter:
    strengths = {
        "brightness": component.brightness,
        "contrast": component.contrast,
        "saturation": component.saturation,
    }

    def read(before: Batch, after: Batch) -> Values:
        values: Values = {}
        for i in range(len(before)):
            found = _colours(before.video[i], after.video[i])
            for name, value in found.items():
                values.setdefault(name, []).append(abs(value))
        return values

    bands = {name: size_of_uniform(s, slack=0.3 * s / 2 + 0.015) for name, s in strengths.items()}
    return Meter(
        {f"{name} factor's distance from 1": band for name, band in bands.items()}
        | {"hue's turn (share of the circle)": size_of_uniform(component.hue, slack=0.2 * component.hue / 2 + 0.004)},
        read,
    )


def _colours(before: Tensor, after: Tensor) -> dict[str, float]:
    """Factors minus 1, and the turn of hue, fitted to the pixels of a clip's first frame that no limit cut.

    A turn of hue leaves a pixel's largest and least channel as they are, so these show the other three: with g the grey
    before, M its mean over the clip, b c s the factors of brightness, contrast and saturation,
    largest' = b c (1 - s) g + b c s largest + b M (1 - c).
    """
    old, new = before[0].float().cpu() / 255, after[0].float().cpu() / 255
    factors = ("brightness", "contrast", "saturation")
    names = (*(f"{name} factor's distance from 1" for name in factors), "hue's turn (share of the circle)")
    most, least = (x.amax(dim=0) for x in (old, new)), (x.amin(dim=0) for x in (old, new))
    (old_most, new_most), (old_least, new_least) = most, least
    usable = (new_most < 0.99) & (new_least > 0.01) & (old_most < 0.99)
    if int(usable.sum()) < 64:
        return dict.fromkeys(names, nan)
    grey = (old * _GREY[:, None, None]).sum(dim=0)
    mean = float((before.float().cpu() / 255 * _GREY[:, None, None]).sum(dim=1).mean())
    sides = [(old_most, new_most), (old_least, new_least)]
    rows = torch.cat([torch.stack([grey[usable], x[usable], torch.ones_like(x[usable])], 1) for x, _ in sides])
    goal = torch.cat([y[usable] for _, y in sides])
    fit = torch.linalg.lstsq(rows.double(), goal.double()[:, None]).solution[:, 0].tolist()
    both = fit[0] + fit[1]
    if both <= 0 or mean <= 0:
        return dict.fromkeys(names, nan)
    brightness = both + fit[2] / mean
    turn = _turn(old[:, usable], new[:, usable])
    return dict(zip(names, (brightness - 1, both / brightness - 1, fit[1] / both - 1, turn), strict=True))


def _turn(old: Tensor, new: Tensor) -> float:
    """The mean turn of hue of some pixels (3, n), as a share of the circle, weighted by how colourful they are."""
    angle, weight = _hue(new) - _hue(old), _chroma(old) * _chroma(new)
    if float(weight.sum()) <= 0:
        return nan
    return float(torch.atan2((weight * angle.sin()).sum(), (weight * angle.cos()).sum())) / (2 * torch.pi)


def _chroma(pixels: Tensor) -> Tensor:
    return pixels.amax(dim=0) - pixels.amin(dim=0)


def _hue(pixels: Tensor) -> Tensor:
    """The hexagonal hue of HSV, in radians."""
    red, green, blue = pixels
    most, chroma = pixels.amax(dim=0), _chroma(pixels).clamp_min(1e-6)
    sextant = torch.where(
        most == red,
        (green - blue) / chroma,
        torch.where(most == green, 2 + (blue - red) / chroma, 4 + (red - green) / chroma),
    )
    return sextant * torch.pi / 3


@meter.register
def _(component: RandomErasing) -> Meter:
    def read(before: Batch, after: Batch) -> Values:
        names = ("share erased", "erased share of the area", "grey level of what was erased", _FIXED)
        values: Values = {name: [] for name in (*names, "masks not ignored where erased")}
        for i in range(len(before)):
            changed = (after.video[i, 0] != before.video[i, 0]).any(dim=0)
            values["share erased"].append(float(changed.any()))
            if not changed.any():
                continue
            rows, columns = changed.any(dim=1).nonzero(), changed.any(dim=0).nonzero()
            box = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
            hole = after.video[i][..., box[0], box[1]]
            values["erased share of the area"].append(hole[0, 0].numel() / changed.numel())
            values["grey level of what was erased"].append(float(hole.float().mean()))
            values[_FIXED].append(float((hole.int() - hole[:1].int()).abs().max()))
            if after.masks is not None:
                cells = F.interpolate(after.masks.values[i][None].float(), size=changed.shape, mode="nearest")[0]
                left = cells[:, box[0], box[1]] != IGNORED
                values["masks not ignored where erased"].append(float(left.float().mean()))
        return values

    low, high = component.area
    grey = DoseBand(127.5, sd=12.0, slack=3.0) if component.fill == "noise" else DoseBand(0.0, slack=3.0)
    return Meter(
        {
            "share erased": share(component.probability),
            "erased share of the area": uniform(low, high, slack=0.15 * (low + high) / 2 + 0.005).optional(),
            "grey level of what was erased": grey.optional(),
            _FIXED: never().optional(),
            "masks not ignored where erased": never(0.05).optional(),
        },
        read,
    )


#: Blur narrower than this leaves bytes as they were.
_SEEN_FROM = 0.4
_SIGMAS = tuple(float(s) for s in np.exp(np.linspace(log(0.3), log(8.0), 16)))


@meter.register
def _(component: GaussianBlur) -> Meter:
    low, high = component.sigma

    def read(before: Batch, after: Batch) -> Values:
        widths = [_blur(before.video[i, 0], after.video[i, 0]) for i in range(len(before))]
        seen = [w for w in widths if not isnan(w) and w > _SEEN_FROM]
        return {"share blurred visibly": [float(w > _SEEN_FROM) for w in widths], "blur's sigma in pixels": seen}

    visible = 0.0 if high <= _SEEN_FROM else min(1.0, (high - _SEEN_FROM) / max(high - low, 1e-9))
    start = max(low, _SEEN_FROM)
    return Meter(
        {
            "share blurred visibly": share(component.probability * visible, slack=0.12 * component.probability),
            "blur's sigma in pixels": uniform(start, max(start, high), slack=0.2 * (start + high) / 2).optional(),
        },
        read,
    )


def _blur(before: Tensor, after: Tensor) -> float:
    """The sigma of the Gaussian that makes one frame most like the other; 0 where nothing changed."""
    if torch.equal(before, after):
        return 0.0
    from scipy.ndimage import gaussian_filter

    old: NDArray[np.float64] = before[1].cpu().numpy().astype(np.float64)
    new = after[1].cpu().numpy().astype(np.float64)
    errors = [float(((gaussian_filter(old, s, mode="nearest", truncate=3.0) - new) ** 2).mean()) for s in _SIGMAS]
    return _SIGMAS[int(np.argmin(errors))]
