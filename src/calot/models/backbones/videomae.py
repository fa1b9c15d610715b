"""VideoMAE's encoder (Tong et al. 2022), through transformers' `VideoMAEModel`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from torch import Tensor

from calot.config.fields import Path, Range
from calot.models.backbones.protocol import Layout
from calot.models.backbones.vision_transformer import VideoTransformer


@dataclass(frozen=True, kw_only=True)
class VideoMAE(VideoTransformer):
    """A video transformer pretrained by reconstructing masked tubes. Defaults: ViT-L, 16 frames of 224 x 224.

    Its positions are a fixed table for one clip length and size, so published weights must be of both.
    """

    name = "VideoMAE encoder"
    classes = ("VideoMAEConfig", "VideoMAEModel")
    layout = Layout(
        layers="encoder.layer",
        embedding="embeddings",
        final_norm="layernorm",
        attention="attention.attention",
        linears={
            "q": "attention.attention.query",
            "k": "attention.attention.key",
            "v": "attention.attention.value",
            "proj": "attention.output.dense",
            "fc1": "intermediate.dense",
            "fc2": "output.dense",
        },
    )

    weights: Path | None = "MCG-NJU/videomae-large"
    size: Annotated[int, Range(ge=1, le=4096)] = 224

    def shape(self) -> dict[str, Any]:
        return super().shape() | {
            "image_size": self.size,
            "num_frames": self.frames,
            "intermediate_size": self.hidden,
            "use_mean_pooling": False,  # which would put the final norm into a classifier's head
        }

    def encode(self, network: Any, video: Tensor) -> Tensor:
        return network(video).last_hidden_state  # type: ignore[no-any-return]
