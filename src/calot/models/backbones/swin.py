"""SwinV2 on each frame by itself (Liu et al. 2022), through transformers' `Swinv2Model`."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from calot.config.fields import FractionBelowOne, Path, Range, Size
from calot.models.backbones.place import Place
from calot.models.backbones.protocol import Backbone, Layout
from calot.models.backbones.swin_attention import watched_block
from calot.models.backbones.view import View
from calot.models.backbones.vision_transformer import VisionTransformer
from calot.models.checkpoints import find_weights
from calot.types import QueryKey

#: Stages, each at half the resolution and twice the width of the one before.
STAGES = 4

#: Layers of the first, second and last stage; the third has the rest, in every published SwinV2.
_EACH = 2

_TINY: dict[str, Any] = {"weights": None, "size": 64, "patch": 4, "width": 128, "layers": 8, "heads": 4}
_TINY |= {"window": 4, "pretrained_window": 4}


@dataclass(frozen=True, kw_only=True)
class SwinPerFrame(VisionTransformer):
    """SwinV2 on each frame, every frame a temporal bin: frames are combined only in pooling. Defaults: SwinV2-B with
    window 24 on frames of 384 x 384, whose tokens are a grid of 12 x 12.

    `layers`, `width` and `heads`: of the whole network, and of its last stage; a stage has half of the width and heads
    of the one after it. `window`: the side of a window, in tokens; `pretrained_window`: that of the weights' own
    pretraining, to which positions are scaled (half of it in the last stage), 0 for none. Layers are counted over all
    stages; what merges patches in front of a stage belongs to its first layer. Weights are transformers' (a hub id or a
    folder); the authors' `.pth` files are not read.

    `normalisation`: ImageNet's figures; "min-max" then moves each frame's least value to 0 and its greatest to 1, and
    "reversed min-max" does so after figures in reversed channel order (blue, green, red), as SwinCVS's code.
    """

    name = "SwinV2, frame by frame"
    classes = ("Swinv2Config", "Swinv2Model")
    layout = Layout(
        layers="encoder.layers",
        embedding="embeddings",
        final_norm="layernorm",
        attention=None,
        linears={
            "q": "attention.self.query",
            "k": "attention.self.key",
            "v": "attention.self.value",
            "proj": "attention.output.dense",
            "fc1": "intermediate.dense",
            "fc2": "output.dense",
        },
    )

    weights: Path | None = "microsoft/swinv2-base-patch4-window12to24-192to384-22kto1k-ft"
    size: Annotated[int, Range(ge=1, le=4096)] = 384
    patch: Annotated[int, Range(ge=1, le=256)] = 4
    heads: Annotated[int, Range(ge=1, le=1024)] = 32
    window: Size = 24
    pretrained_window: Annotated[int, Range(ge=0, le=4096)] = 12
    drop_path: FractionBelowOne = 0.0
    normalisation: Literal["imagenet", "min-max", "reversed min-max"] = "imagenet"

    def __post_init__(self) -> None:
        for whole, part in (("size", self.patch * self._halvings), ("width", self._halvings)):
            if getattr(self, whole) % part:
                raise ValueError(f"SwinPerFrame.{whole}={getattr(self, whole)} is not a multiple of {part}")
        if self.layers <= _EACH * (STAGES - 1):
            raise ValueError(f"SwinPerFrame.layers={self.layers}: three of its stages take {_EACH * (STAGES - 1)}")
        if 0 < self.pretrained_window < 4:
            raise ValueError(
                f"SwinPerFrame.pretrained_window={self.pretrained_window}: give 0, or 4 or more (half in the last)"
            )
        super().__post_init__()

    @property
    def _halvings(self) -> int:
        return 1 << (STAGES - 1)

    @property
    def depths(self) -> tuple[int, ...]:
        """The layers of each stage."""
        return _EACH, _EACH, self.layers - _EACH * (STAGES - 1), _EACH

    @property
    def side(self) -> int:
        return self.size // (self.patch * self._halvings)

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.frames, self.side, self.side

    def grid_of(self, layer: int) -> tuple[int, int, int]:
        ends = [sum(self.depths[: stage + 1]) for stage in range(STAGES)]
        side = self.side << (STAGES - 1 - bisect_right(ends, layer))
        return self.frames, side, side

    @property
    def attention_parts(self) -> int:
        return self.frames

    @property
    def views(self) -> tuple[View, ...]:
        (view,) = super().views
        if not self.normalisation.startswith("reversed"):
            return (view,)
        (r, g, b), (red, green, blue) = self.mean, self.std
        return (replace(view, mean=(b, g, r), std=(blue, green, red)),)

    def shape(self) -> dict[str, Any]:
        window = self.pretrained_window
        return {
            "patch_size": self.patch,
            "embed_dim": self.width // self._halvings,
            "depths": list(self.depths),
            "num_heads": [max(1, self.heads >> (STAGES - 1 - stage)) for stage in range(STAGES)],
            "mlp_ratio": self.mlp_ratio,
            "window_size": self.window,
            "pretrained_window_sizes": [window] * (STAGES - 1) + [window // 2],
        }

    def settings(self) -> dict[str, Any]:
        return {"image_size": self.size, "drop_path_rate": self.drop_path}

    def trimmed(self, model: Any) -> Any:
        model.pooler = None
        return model

    def encode(self, network: Any, video: Tensor) -> Tensor:
        frames = video.flatten(0, 1)
        if self.normalisation != "imagenet":
            frames = _to_own_range(frames)
        tokens: Tensor = network(frames).last_hidden_state
        return tokens.reshape(len(video), -1, self.width)

    def build(self) -> SwinBackbone:
        if self.weights is None:
            return self.build_without_weights()
        return SwinBackbone(self._published(find_weights(self.weights)), spec=self)

    def build_without_weights(self) -> SwinBackbone:
        return SwinBackbone(self.untrained(), spec=self)

    def at_tiny_scale(self) -> SwinPerFrame:
        return replace(self, **_TINY, frames=min(self.frames, 8))

    def sizes(self) -> str:
        return f"{super().sizes()}, window {self.window}"


class SwinBackbone(Backbone):
    """One whose layers lie in stages: they are numbered through, and patch merging is told by the layer after it."""

    @property
    def layers(self) -> nn.ModuleList:
        return nn.ModuleList(block for stage in self._stages for block in stage.blocks)

    def watching(self, layer: int, tap: Callable[[QueryKey], None]) -> AbstractContextManager[None]:
        return watched_block(self.layers[layer], frames=self.spec.frames, tap=tap)

    def modules_of(self, layer: int) -> tuple[nn.Module, ...]:
        starts = {self._number(stage, 0): merging for stage, merging in self._mergings.items()}
        block = self.layers[layer]
        return (starts[layer], block) if layer in starts else (block,)

    def linear_pattern(self, *, layers: Collection[int], roles: Collection[str]) -> str:
        names = [f"{s}.blocks.{b}" for s, stage in enumerate(self._stages) for b in range(len(stage.blocks))]
        blocks = "|".join(re.escape(names[number]) for number in layers)
        linears = "|".join(re.escape(self._name(role)) for role in roles)
        return rf"(?:.*\.)?{re.escape(self.spec.layout.layers)}\.(?:{blocks})\.(?:{linears})"

    def place(self, name: str) -> Place:
        start = re.escape(self.spec.layout.layers)
        below = name.removeprefix("model.")
        if found := re.match(rf"{start}\.(\d+)\.blocks\.(\d+)\.(.+)", below):
            number = self._number(int(found[1]), int(found[2]))
            linears = self.spec.layout.linears.items()
            role = next((r for r, n in linears if found[3].startswith(f"{n}.")), None)
            return Place(number + 1, f"layer.{number}", role)
        if found := re.match(rf"{start}\.(\d+)\.downsample\.", below):
            number = self._number(int(found[1]) + 1, 0)
            return Place(number + 1, f"layer.{number}")
        return super().place(name)

    @property
    def _stages(self) -> list[Any]:
        return list(self.model.get_submodule(self.spec.layout.layers))

    @property
    def _mergings(self) -> dict[int, nn.Module]:
        """What merges patches, by the stage that it leads into."""
        return {s + 1: stage.downsample for s, stage in enumerate(self._stages) if stage.downsample is not None}

    def _number(self, stage: int, block: int) -> int:
        return sum(len(before.blocks) for before in self._stages[:stage]) + block


def _to_own_range(frames: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Each frame from 0 to 1; one of a single colour in each channel, where that is all one value, is 0."""
    low, high = (x.view(-1, 1, 1, 1) for x in frames.flatten(1).aminmax(dim=1))
    return (frames - low) / (high - low).clamp_min(1e-6)
