"""An image transformer that sees each frame by itself: DINOv3 (Simeoni et al. 2025), through transformers' model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from torch import Tensor

from calot.config.fields import FractionBelowOne, Path, Range
from calot.models.backbones.protocol import Layout
from calot.models.backbones.vision_transformer import VisionTransformer


@dataclass(frozen=True, kw_only=True)
class DINOv3PerFrame(VisionTransformer):
    """DINOv3's ViT on each of 16 frames of 256 x 256, every frame a temporal bin: frames are combined only in pooling.
    Positions are not jittered in training, as DINOv3's own were."""

    name = "DINOv3 ViT, frame by frame"
    classes = ("DINOv3ViTConfig", "DINOv3ViTModel")
    rotary = True
    layout = Layout(
        layers="model.layer",
        embedding="embeddings",
        final_norm="norm",
        attention="attention",
        linears={r: f"attention.{r[0]}_proj" for r in ("q", "k", "v")}
        | {"proj": "attention.o_proj", "fc1": "mlp.up_proj", "fc2": "mlp.down_proj"},
    )

    weights: Path | None = "facebook/dinov3-vitl16-pretrain-lvd1689m"
    registers: Annotated[int, Range(ge=0, le=64)] = 4
    drop_path: FractionBelowOne = 0.0

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.frames, self.side, self.side

    @property
    def attention_parts(self) -> int:
        return self.frames

    @property
    def extra_tokens(self) -> int:
        return 1 + self.registers  # the class token in front

    def shape(self) -> dict[str, Any]:
        return super().shape() | {"intermediate_size": self.hidden, "num_register_tokens": self.registers}

    def settings(self) -> dict[str, Any]:
        return {"image_size": self.size, "drop_path_rate": self.drop_path, "pos_embed_rescale": None}

    def trimmed(self, model: Any) -> Any:
        model.embeddings.mask_token = None
        return model

    def encode(self, network: Any, video: Tensor) -> Tensor:
        tokens: Tensor = network(video.flatten(0, 1)).last_hidden_state[:, self.extra_tokens :]
        return tokens.reshape(len(video), -1, self.width)
