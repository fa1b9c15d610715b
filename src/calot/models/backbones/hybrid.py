"""Frames through SwinV2, then their tokens through the last blocks of a V-JEPA 2 encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from jaxtyping import Float
from torch import Tensor, nn

from calot.config.fields import Range, Size
from calot.models.backbones.additions import Pruning
from calot.models.backbones.protocol import FRESH, Backbone, BackboneSpec, Layout
from calot.models.backbones.swin import SwinBackbone, SwinPerFrame
from calot.models.backbones.vjepa2 import VJEPA2


@dataclass(frozen=True, kw_only=True)
class SwinVJEPA(BackboneSpec):
    """SwinV2 on each frame; the tokens of two consecutive frames joined by a fresh linear; V-JEPA 2's last `layers`
    blocks over them, with rotary positions of SwinV2's grid, and its final norm.

    `size`, `frames`, `width` and `layers` are those of the whole, and the parts (`swin`, `video`) follow them. The
    numbered layers are V-JEPA 2's; SwinV2 stands where an embedding does. Whether the weights are published is said by
    `weights` of V-JEPA 2 (`video.weights` is not read) and by `swin.weights`.
    """

    name = "SwinV2 into V-JEPA 2"
    rotary = True
    layout = Layout(
        layers="video.encoder.layer",
        embedding="swin",
        final_norm="video.encoder.layernorm",
        attention=VJEPA2.layout.attention,
        linears=VJEPA2.layout.linears,
    )

    weights: str | None = VJEPA2.weights
    size: Annotated[int, Range(ge=1, le=4096)] = 384
    frames: Annotated[int, Range(ge=1, le=1024)] = 16
    width: Size = 1024
    layers: Annotated[int, Range(ge=1, le=1000)] = 6
    swin: SwinPerFrame = SwinPerFrame()
    video: VJEPA2 = VJEPA2(layers=6, pruning=Pruning(of=24, keep="last"))

    def __post_init__(self) -> None:
        if self.frames % self.video.tubelet:
            raise ValueError(f"SwinVJEPA.frames={self.frames} is not a multiple of {self.video.tubelet}")
        if self.of_blocks.grid != self.grid:
            raise ValueError(f"SwinVJEPA: blocks for a grid of {self.of_blocks.grid} and tokens on {self.grid}")

    @property
    def of_frames(self) -> SwinPerFrame:
        """SwinV2 as it is built here."""
        return replace(self.swin, size=self.size, frames=self.frames, width=self.width)

    @property
    def of_blocks(self) -> VJEPA2:
        """The V-JEPA 2 encoder whose blocks are taken, built for frames of as many patches as SwinV2 has tokens."""
        size = self.of_frames.side * self.video.patch
        weights, width, layers = self.weights, self.width, self.layers
        return replace(self.video, size=size, frames=self.frames, width=width, layers=layers, weights=weights)

    @property
    def inner(self) -> SwinPerFrame:
        return self.of_frames

    @property
    def published(self) -> bool:
        return super().published and self.swin.published

    @property
    def grid(self) -> tuple[int, int, int]:
        _, height, width = self.of_frames.grid
        return self.frames // self.video.tubelet, height, width

    def build(self) -> Backbone:
        return self._joined(self.of_frames.build(), self.of_blocks.build())

    def build_without_weights(self) -> Backbone:
        return self._joined(self.of_frames.build_without_weights(), self.of_blocks.build_without_weights())

    def _joined(self, frames: Backbone, blocks: Backbone) -> Backbone:
        blocks.model.encoder.embeddings = nn.Identity()  # SwinV2's tokens come in their place
        join = nn.Linear(self.video.tubelet * self.width, self.width)
        parts = nn.ModuleDict({"swin": frames.model, FRESH: nn.ModuleDict({"join": join}), "video": blocks.model})
        return HybridBackbone(parts, spec=self, inner=SwinBackbone(frames.model, spec=self.of_frames))

    def encode(self, network: Any, video: Tensor) -> Tensor:
        tokens = self.of_frames.encode(network["swin"], video)
        return self.of_blocks.through(network["video"], network[FRESH]["join"](self.pairs(tokens)))

    def pairs(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b m e"]:
        """At each place of the grid, the tokens of consecutive frames side by side, the earlier first."""
        (bins, height, width), clips = self.grid, len(tokens)
        apart = tokens.reshape(clips, bins, self.video.tubelet, height * width, self.width)
        return apart.transpose(2, 3).reshape(clips, bins * height * width, -1)

    def at_tiny_scale(self) -> SwinVJEPA:
        """SwinV2's patches are finer here than at its own tiny scale, for a grid of 4 x 4."""
        swin = replace(self.swin.at_tiny_scale(), patch=2, window=8)
        video = replace(self.video, layers=self.layers).at_tiny_scale()
        sizes = {"size": swin.size, "width": swin.width, "frames": min(self.frames, 8), "layers": video.layers}
        weights = None if self.weights is None else video.weights
        return replace(self, **sizes, weights=weights, swin=swin, video=video)

    def describe(self) -> str:
        return f"{self.name}: {self.of_frames.describe()}; then {self.of_blocks.sizes()}"


class HybridBackbone(Backbone):
    """One with a whole network in the place of its embedding: `inner` is that network as a backbone of its own."""

    def __init__(self, model: nn.Module, *, spec: BackboneSpec, inner: SwinBackbone) -> None:
        super().__init__(model, spec=spec)
        self._inner = (inner,)  # in a tuple: no module of it twice

    @property
    def inner(self) -> SwinBackbone:
        return self._inner[0]

    def train(self, mode: bool = True) -> HybridBackbone:
        super().train(mode)
        self.inner.train(mode and any(p.requires_grad for p in self.inner.parameters()))
        return self

    def checkpoint_gradients(self) -> None:
        self.inner.checkpoint_gradients()
        self.model["video"].activation_checkpointing_enable({"use_reentrant": False})
