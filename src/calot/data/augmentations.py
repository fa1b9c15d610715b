"""Augmentation family D: what changes a training clip, and its masks with it. One draw per clip, for all of its frames.

Parameters come from the clip's own generator, pixels from torch and kornia functions that draw nothing themselves;
clips are worked on one by one, so that an effective batch is never blown up to floats and no clip depends on another.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from calot.config.fields import Fraction, Range, Since
from calot.data.boxes import Box, grid_of
from calot.data.transforms import Augmentation, HorizontalFlip
from calot.errors import CalotError
from calot.types import IGNORED, Batch

Clip = UInt8[Tensor, "t c h w"]
Layers = UInt8[Tensor, "m y x"]

#: How many boxes of a crop are drawn before the frame is left whole.
_CROPS_TRIED = 10


class ClipAugmentation(Augmentation):
    """An augmentation that works clip by clip."""

    def __call__(self, batch: Batch, *, rngs: Sequence[Generator]) -> Batch:
        video = batch.video.clone()
        values = None if batch.masks is None else batch.masks.values.clone()
        for i, rng in enumerate(rngs):
            self.change(video[i], None if values is None else values[i], rng=rng, grid=grid_of(batch))
        masks = None if batch.masks is None or values is None else replace(batch.masks, values=values)
        return replace(batch, video=video, masks=masks)

    @abstractmethod
    def change(self, clip: Clip, layers: Layers | None, *, rng: Generator, grid: tuple[int, int]) -> None:
        """Change one clip and its mask layers in place; `grid` is that of the boxes that fit both."""


@dataclass(frozen=True)
class Rotation(ClipAugmentation):
    """Turn about the centre by an angle uniform in +-`degrees`, counter-clockwise: frames bilinearly, masks by nearest.

    What comes in from outside is black in frames and ignored in masks. The study reflects the frame there and calls it
    background in masks, which teaches that a mirrored organ is none.
    """

    degrees: Annotated[float, Range(ge=0, le=180)] = 15.0

    def neutral(self) -> Rotation:
        """The same that changes nothing."""
        return replace(self, degrees=0.0)

    def change(self, clip: Clip, layers: Layers | None, *, rng: Generator, grid: tuple[int, int]) -> None:
        angle = rng.uniform(-self.degrees, self.degrees)
        clip.copy_(_bytes(rotate(clip, degrees=angle, mode="bilinear")))
        if layers is not None:
            seen = rotate(IGNORED - layers[None], degrees=angle, mode="nearest")[0]
            layers.copy_(IGNORED - _bytes(seen))


@dataclass(frozen=True)
class RandomResizedCrop(ClipAugmentation):
    """Cut a box out of all frames alike and make it as large as the frame was: frames bilinearly, masks by nearest.

    Its share of the area is uniform in `scale`, its width over its height log-uniform in `aspect`, of which 1 is the
    frame's own; ten draws that reach out of the frame leave it whole. The arithmetic and both ranges are those of
    V-JEPA 2's pretraining (`random_resized_crop`), which crops frames of the source's size: here they are the model's.
    """

    scale: Annotated[tuple[float, float], Range(ge=0.01, le=1)] = (0.3, 1.0)
    aspect: Annotated[tuple[float, float], Range(ge=0.01, le=100)] = (0.75, 1.35)

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1] or not self.aspect[0] <= 1 <= self.aspect[1]:
            raise CalotError(
                f"RandomResizedCrop.scale={self.scale}, aspect={self.aspect}: each needs its lower end first, "
                "and aspect a range that holds 1."
            )

    def neutral(self) -> RandomResizedCrop:
        """The same that changes nothing."""
        return replace(self, scale=(1.0, 1.0), aspect=(1.0, 1.0))

    def change(self, clip: Clip, layers: Layers | None, *, rng: Generator, grid: tuple[int, int]) -> None:
        height, width = clip.shape[-2:]
        box = self.draw(rng=rng, height=height, width=width)
        seen = F.interpolate(box.view(clip).float(), size=(height, width), mode="bilinear", align_corners=False)
        clip.copy_(_bytes(seen))
        if layers is not None:
            rows = _cells_seen(box.top, box.bottom, of=height, count=layers.shape[-2])
            columns = _cells_seen(box.left, box.right, of=width, count=layers.shape[-1])
            layers.copy_(layers[:, rows.to(layers.device)][:, :, columns.to(layers.device)])

    def draw(self, *, rng: Generator, height: int, width: int) -> Box:
        """A box of whole pixels inside a frame."""
        whole = (height, width)
        for _ in range(_CROPS_TRIED):
            share = rng.uniform(*self.scale)
            aspect = math.exp(rng.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])))
            wide = round(width * math.sqrt(share * aspect))
            high = round(height * math.sqrt(share / aspect))
            if 0 < wide <= width and 0 < high <= height:
                top, left = int(rng.integers(0, height - high + 1)), int(rng.integers(0, width - wide + 1))
                return Box(top, top + high, left, left + wide, whole)
        return Box(0, height, 0, width, whole)


@dataclass(frozen=True)
class ColourJitter(ClipAugmentation):
    """Brightness, contrast, saturation, then hue, always in this order, cut to the range of colours after each.

    The first three multiply by a factor uniform in 1 +- their strength: the colours; their distance from the clip's
    mean grey (one mean for all frames, or they would flicker); their distance from the pixel's own grey. Hue turns
    by up to +-`hue` of the colour circle. torchvision's operations, but for its shuffled order and mean a frame.
    """

    brightness: Fraction = 0.3
    contrast: Fraction = 0.3
    saturation: Fraction = 0.2
    hue: Annotated[float, Range(ge=0, le=0.5)] = 0.1

    def neutral(self) -> ColourJitter:
        """The same that changes nothing."""
        return replace(self, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)

    def change(self, clip: Clip, layers: Layers | None, *, rng: Generator, grid: tuple[int, int]) -> None:
        brightness, contrast, saturation = (
            rng.uniform(1 - strength, 1 + strength) for strength in (self.brightness, self.contrast, self.saturation)
        )
        turn = rng.uniform(-self.hue, self.hue)
        colours = (clip.float() / 255 * brightness).clamp_(0, 1)
        colours = torch.lerp(_grey(colours).mean(), colours, contrast).clamp_(0, 1)
        colours = torch.lerp(_grey(colours), colours, saturation).clamp_(0, 1)
        clip.copy_(_bytes(turn_hue(colours, turn=turn) * 255))


@dataclass(frozen=True)
class RandomErasing(ClipAugmentation):
    """Erase one box, the same in all frames (Zhong et al. 2020); mask pixels under it are ignored.

    Its share of the area is uniform in `area` (the study's 5 to 20 %; torchvision's is 2 to 33 %), its height to width
    log-uniform in `ratio`. `fill` is what comes in its place: noise, uniform per pixel and channel and the same in all
    frames, as in the study, or black. Where there are masks, the box covers whole mask pixels.
    """

    probability: Fraction = 0.2
    area: Annotated[tuple[float, float], Range(ge=1e-6, le=1)] = (0.05, 0.20)
    ratio: Annotated[tuple[float, float], Range(ge=0.001, le=1000)] = (0.3, 3.3)
    fill: Annotated[Literal["noise", "black"], Since("0.2.0", before="black")] = "noise"

    def __post_init__(self) -> None:
        if self.area[0] > self.area[1] or self.ratio[0] > self.ratio[1]:
            raise CalotError(f"RandomErasing.area={self.area}, ratio={self.ratio}: each needs its lower end first.")

    def idle(self) -> tuple[str, ...]:
        return () if self.probability else ("area", "ratio", "fill")

    def neutral(self) -> RandomErasing:
        """The same that changes nothing."""
        return replace(self, probability=0.0)

    def change(self, clip: Clip, layers: Layers | None, *, rng: Generator, grid: tuple[int, int]) -> None:
        if rng.random() >= self.probability:
            return
        box = self.draw(rng=rng, grid=grid)
        hole = box.view(clip)
        if self.fill == "black":
            hole.fill_(0)
        else:
            hole.copy_(torch.from_numpy(rng.integers(0, 256, hole.shape[1:], dtype=np.uint8)))
        if layers is not None:
            box.view(layers).fill_(IGNORED)

    def draw(self, *, rng: Generator, grid: tuple[int, int]) -> Box:
        """A box somewhere inside; one that would reach over an edge is narrowed to fit."""
        area = rng.uniform(*self.area)
        ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
        height = min(1.0, math.sqrt(area * ratio))
        width = min(1.0, math.sqrt(area / ratio))
        top, left = rng.uniform(0, 1 - height), rng.uniform(0, 1 - width)
        return Box.nearest(top=top, left=left, height=height, width=width, grid=grid)


@dataclass(frozen=True)
class GaussianBlur(ClipAugmentation):
    """Blur by a Gaussian of `sigma` pixels of the model's input, drawn uniformly; masks stay."""

    probability: Fraction = 0.1
    sigma: Annotated[tuple[float, float], Range(ge=0.01, le=100)] = (0.1, 2.0)

    def __post_init__(self) -> None:
        if self.sigma[0] > self.sigma[1]:
            raise CalotError(f"GaussianBlur.sigma={self.sigma} needs its lower end first.")

    def idle(self) -> tuple[str, ...]:
        return () if self.probability else ("sigma",)

    def neutral(self) -> GaussianBlur:
        """The same that changes nothing."""
        return replace(self, probability=0.0)

    def change(self, clip: Clip, layers: Layers | None, *, rng: Generator, grid: tuple[int, int]) -> None:
        if rng.random() >= self.probability:
            return
        from kornia.filters import gaussian_blur2d  # here, because kornia takes a second to import

        sigma = rng.uniform(*self.sigma)
        side = 2 * math.ceil(3 * sigma) + 1
        clip.copy_(_bytes(gaussian_blur2d(clip.float(), (side, side), (sigma, sigma), border_type="replicate")))


def rotate(image: UInt8[Tensor, "n c h w"], *, degrees: float, mode: str) -> Float[Tensor, "n c h w"]:
    """Turn images counter-clockwise about their centre; 0 comes in from outside. The resolution does not matter."""
    from kornia.geometry.transform import rotate as turn  # here, because kornia takes a second to import

    angle = torch.full((1,), float(degrees), device=image.device)
    planes = image.reshape(1, -1, *image.shape[-2:]).float()  # one image of many channels: one grid for all of them
    turned: Tensor = turn(planes, angle, mode=mode, padding_mode="zeros", align_corners=False)
    return turned.view(image.shape)


def turn_hue(colours: Float[Tensor, "t c h w"], *, turn: float) -> Float[Tensor, "t c h w"]:
    """Turn the hue of colours of 0 to 1 by a part of the colour circle; greys stay grey."""
    from kornia.color import hsv_to_rgb, rgb_to_hsv  # here, because kornia takes a second to import

    hsv = rgb_to_hsv(colours)
    hsv[:, 0] = (hsv[:, 0] + 2 * math.pi * turn) % (2 * math.pi)
    turned: Tensor = hsv_to_rgb(hsv)
    return turned


def _cells_seen(first: int, last: int, *, of: int, count: int) -> Int[Tensor, " y"]:
    """Of `count` mask cells along a side of `of` pixels, the one under the middle of each cell of the crop."""
    middles = first + (torch.arange(count, dtype=torch.float64) + 0.5) / count * (last - first)
    return (middles / of * count).floor().long()


def _grey(colours: Float[Tensor, "t c h w"]) -> Float[Tensor, "t 1 h w"]:
    """Luma after ITU-R BT.601, as torchvision and Pillow have it."""
    weights = colours.new_tensor((0.2989, 0.5870, 0.1140)).view(-1, 1, 1)
    return (colours * weights).sum(dim=1, keepdim=True)


def _bytes(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255).to(torch.uint8)


#: Augmentation family D, in its documented order.
FAMILY_D: tuple[Augmentation, ...] = (
    HorizontalFlip(),
    Rotation(),
    ColourJitter(),
    RandomErasing(),
    GaussianBlur(),
)
