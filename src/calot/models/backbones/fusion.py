"""V-JEPA 2 on a whole clip and SwinV2 on its last frames at a higher resolution, their vectors joined for the heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from calot.config.fields import Count, Range, Size
from calot.models.backbones.hybrid import HybridBackbone, SwinVJEPA
from calot.models.backbones.protocol import Backbone, BackboneSpec
from calot.models.backbones.swin import SwinBackbone, SwinPerFrame
from calot.models.backbones.vjepa2 import VJEPA2
from calot.types import Tokens

_SWIN = SwinPerFrame()


@dataclass(frozen=True, kw_only=True)
class MultiResolution(BackboneSpec):
    """A clip is stored at SwinV2's `size` and augmented once; V-JEPA 2 sees it resized (bilinear, antialiased) to
    `video.size`. Tokens and numbered layers are V-JEPA 2's; the mean of SwinV2's tokens over the clip's last
    `swin_frames` frames stands beside them. SwinV2 counts as part of the embedding.

    Sizes of the whole decide over those of `video` and `swin`; `weights` are V-JEPA 2's.
    """

    name = "V-JEPA 2 and SwinV2"
    rotary = True
    layout = replace(SwinVJEPA.layout, embedding="front")

    weights: str | None = VJEPA2.weights
    size: Annotated[int, Range(ge=1, le=4096)] = _SWIN.size
    frames: Annotated[int, Range(ge=1, le=1024)] = 16
    width: Size = 1024
    layers: Annotated[int, Range(ge=1, le=1000)] = 24
    swin_frames: Count = 5
    swin: SwinPerFrame = _SWIN
    video: VJEPA2 = VJEPA2()

    def __post_init__(self) -> None:
        if self.swin_frames > self.frames:
            raise ValueError(f"MultiResolution.swin_frames={self.swin_frames} of a clip of frames={self.frames}")
        _ = self.of_video, self.inner  # raises where they do not fit the whole

    @property
    def inner(self) -> SwinPerFrame:
        """SwinV2 as it is built here."""
        return replace(self.swin, size=self.size, frames=self.swin_frames)

    @property
    def of_video(self) -> VJEPA2:
        """V-JEPA 2 as it is built here."""
        frames, width, layers = self.frames, self.width, self.layers
        return replace(self.video, weights=self.weights, frames=frames, width=width, layers=layers)

    @property
    def published(self) -> bool:
        return super().published and self.swin.published

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.of_video.grid

    @property
    def beside(self) -> int:
        return self.inner.width

    def build(self) -> Backbone:
        return self._joined(self.inner.build(), self.of_video.build())

    def build_without_weights(self) -> Backbone:
        return self._joined(self.inner.build_without_weights(), self.of_video.build_without_weights())

    def _joined(self, frames: Backbone, video: Backbone) -> Backbone:
        front = nn.ModuleDict({"patches": video.model.encoder.embeddings, "swin": frames.model})
        video.model.encoder.embeddings = nn.Identity()
        parts = nn.ModuleDict({"front": front, "video": video.model})
        return MultiResolutionBackbone(parts, spec=self, inner=SwinBackbone(frames.model, spec=self.inner))

    def encode(self, network: Any, video: Tensor) -> Tensor:
        small = self.resized(video)
        return self.of_video.through(network["video"], network["front"]["patches"](small))

    def resized(self, video: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c e e"]:
        """The clip at V-JEPA 2's size."""
        side = self.video.size
        flat = F.interpolate(video.flatten(0, 1), size=(side, side), mode="bilinear", antialias=True)
        return flat.reshape(*video.shape[:2], *flat.shape[1:])

    def vector(self, network: Any, video: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b e"]:
        """What SwinV2 makes of the last frames: the mean of their tokens."""
        seen = video[:, -self.swin_frames :]
        return self.inner.encode(network["front"]["swin"], seen).mean(dim=1)

    def at_tiny_scale(self) -> MultiResolution:
        """Frames of half as many pixels again as V-JEPA 2's, so that there are two resolutions here too."""
        video, swin = self.of_video.at_tiny_scale(), replace(self.swin.at_tiny_scale(), size=96, window=3)
        sizes = {"size": swin.size, "frames": video.frames, "width": video.width, "layers": video.layers}
        few = min(self.swin_frames, video.frames)
        return replace(
            self, **sizes, weights=video.weights, swin_frames=few, swin=replace(swin, frames=few), video=video
        )

    def describe(self) -> str:
        return f"{self.name}: {self.of_video.describe()}; beside it {self.inner.describe()}"


class MultiResolutionBackbone(HybridBackbone):
    """One whose tokens have SwinV2's vector beside them."""

    def forward(self, video: Shaped[Tensor, "b t c h w"]) -> Tokens:
        (view,) = self.spec.views
        view.require(video)
        spec: Any = self.spec
        clip = (video if video.is_floating_point() else view.normalise(video)).to(next(self.parameters()).dtype)
        return replace(super().forward(clip), beside=spec.vector(self.model, clip))
