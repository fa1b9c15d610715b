"""A clip as a backbone takes it: how many frames, of which size, normalised how."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from calot.errors import CalotError

Figures = tuple[float, float, float]

#: ImageNet's mean and deviation by channel, which most published weights were trained with.
IMAGENET_MEAN: Figures = (0.485, 0.456, 0.406)
IMAGENET_STD: Figures = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class View:
    """A clip as a backbone takes it: `frames` squares of `size` pixels, normalised by `mean` and `std` by channel."""

    frames: int
    size: int
    mean: Figures = IMAGENET_MEAN
    std: Figures = IMAGENET_STD

    def normalise(self, video: UInt8[Tensor, "b t c h w"], *, out: Tensor | None = None) -> Float[Tensor, "b t c h w"]:
        """`(video / 255 - mean) / std` in float32; fills `out` if given."""
        if out is None:
            out = torch.empty(video.shape, dtype=torch.float32, device=video.device)
        elif out.shape != video.shape or out.dtype != torch.float32:
            raise ValueError(f"normalise: out is {out.dtype} {tuple(out.shape)}, need float32 {tuple(video.shape)}")
        mean, std = (torch.tensor(figures, dtype=torch.float64) for figures in (self.mean, self.std))
        scale, shift = ((x.to(out)).view(-1, 1, 1) for x in (1 / (255 * std), -mean / std))
        on_cpu = video.device.type == "cpu"  # frame by frame: what one step wrote is still in the cache for the next
        for given, filled in zip(video.flatten(0, 1), out.flatten(0, 1), strict=True) if on_cpu else [(video, out)]:
            filled.copy_(given).mul_(scale).add_(shift)
        return out

    def require(self, video: Tensor) -> None:
        """Raises CalotError for a clip of another length or size: its positions would be wrong."""
        t, _, h, w = video.shape[1:]
        if (t, h, w) != (self.frames, self.size, self.size):
            raise CalotError(
                f"a clip of {t} frames of {h} x {w} reached a backbone built for {self.frames} of "
                f"{self.size} x {self.size}: its positions would be wrong. Set backbone.size and backbone.frames."
            )
