"""V-JEPA 2's encoder (Assran et al. 2025), through transformers' `VJEPA2Model`; the predictor is never kept."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from calot.config.fields import FractionBelowOne, Path
from calot.models.backbones.protocol import Backbone, Layout
from calot.models.backbones.vision_transformer import VideoTransformer
from calot.models.checkpoints import find_weights, official_encoder_names, official_file, read_official_encoder

#: A tensor of the official encoder, below any prefix.
_OFFICIAL = re.compile(r"(?:(?:model|encoder)\.)*((?:blocks|patch_embed|norm)\..+|pos_embed)")

#: Endings of single files of official names.
_FILES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class VJEPA2(VideoTransformer):
    """The encoder's shape and where its weights come from. Defaults: ViT-L, 16 frames of 256 x 256.

    `weights`: a hub id, a local folder, an official `.pt` file, or None for random weights (drawn from the run's
    seed, and stated in every report). `drop_path`: stochastic depth of the last layer (Huang et al. 2016), growing
    linearly from 0 at the first.
    """

    name = "V-JEPA 2 encoder"
    classes = ("VJEPA2Config", "VJEPA2Model")
    dropped: ClassVar[Mapping[str, Any]] = {"pred_num_hidden_layers": 1}
    layout = Layout(
        layers="encoder.layer",
        embedding="encoder.embeddings",
        final_norm="encoder.layernorm",
        attention="attention",
        linears={
            "q": "attention.query",
            "k": "attention.key",
            "v": "attention.value",
            "proj": "attention.proj",
            "fc1": "mlp.fc1",
            "fc2": "mlp.fc2",
        },
    )

    weights: Path | None = "facebook/vjepa2-vitl-fpc16-256-ssv2"
    drop_path: FractionBelowOne = 0.0

    def shape(self) -> dict[str, Any]:
        return super().shape() | {"mlp_ratio": self.mlp_ratio}

    def settings(self) -> dict[str, Any]:
        return {"crop_size": self.size, "frames_per_clip": self.frames, "drop_path_rate": self.drop_path}

    def trimmed(self, model: Any) -> Any:
        model.predictor = nn.Identity()
        return model

    def encode(self, network: Any, video: Tensor) -> Tensor:
        return network.encoder(video).last_hidden_state  # type: ignore[no-any-return]

    @classmethod
    def translated(cls, name: str, tensor: Tensor) -> Mapping[str, Tensor] | str | None:
        """As the protocol says, and official names: a fused qkv becomes three; positions are computed here."""
        if re.match(r"(?:(?:model|vjepa2)\.)*predictor\.", name):
            return "predictor: never in the path"
        if (official := _OFFICIAL.fullmatch(name)) is None or ".lora_" in name:
            return super().translated(name, tensor)
        parts = official_encoder_names(official[1], tensor)
        return {f"encoder.{k}": v for k, v in parts.items()} or "table of positions: this encoder computes them"

    def build(self) -> Backbone:
        if self.weights is None:
            return super().build()
        place = pathlib.Path(self.weights)
        path = official_file(place if place.suffix in _FILES else find_weights(self.weights))
        if path is None:
            return super().build()
        built = self.build_without_weights()
        encoder = built.model.encoder
        encoder.load_state_dict(read_official_encoder(path, expected=encoder.state_dict()))
        return built
