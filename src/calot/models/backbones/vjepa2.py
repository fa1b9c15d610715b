"""V-JEPA 2's encoder (Assran et al. 2025), through transformers' `VJEPA2Model`; the predictor is never kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from calot.config import fields
from calot.config.component import Component
from calot.config.fields import FractionBelowOne, Range, Size
from calot.errors import CalotError
from calot.models.checkpoints import find_weights, read_official_encoder
from calot.types import Tokens

#: Where `weights=None` shows in files and pages.
RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class VJEPA2(Component):
    """The encoder's shape and where its weights come from. Defaults: ViT-L, 16 frames of 256 x 256.

    `weights`: a hub id, a local folder, an official `.pt` file, or None for random weights (drawn from the run's
    seed, and said so in every report). `size` is the side of the square input in pixels: the rotary position grid is
    built for it, because another size would give wrong positions without an error. `drop_path`: stochastic depth of the
    last layer (Huang et al. 2016), growing linearly from 0 at the first.
    """

    weights: fields.Path | None = "facebook/vjepa2-vitl-fpc16-256-ssv2"
    size: Annotated[int, Range(ge=1, le=4096)] = 256
    frames: Annotated[int, Range(ge=1, le=1024)] = 16
    patch: Annotated[int, Range(ge=1, le=256)] = 16
    tubelet: Annotated[int, Range(ge=1, le=64)] = 2
    width: Size = 1024
    layers: Annotated[int, Range(ge=1, le=1000)] = 24
    heads: Annotated[int, Range(ge=1, le=1024)] = 16
    mlp_ratio: Annotated[float, Range(ge=0.01, le=64)] = 4.0
    drop_path: FractionBelowOne = 0.0

    def __post_init__(self) -> None:
        if self.size % self.patch:
            raise ValueError(f"VJEPA2.size={self.size} is not a multiple of patch={self.patch}")
        if self.frames % self.tubelet:
            raise ValueError(f"VJEPA2.frames={self.frames} is not a multiple of tubelet={self.tubelet}")
        if self.width % self.heads:
            raise ValueError(f"VJEPA2.heads={self.heads} does not divide width={self.width}")

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens along time, height and width."""
        side = self.size // self.patch
        return self.frames // self.tubelet, side, side

    def build(self) -> Backbone:
        """The encoder with its weights. Raises CalotError when they cannot be had or do not fit this shape."""
        if self.weights is None:
            return Backbone(self._random(), spec=self)
        if self.weights.endswith((".pt", ".pth")):
            model = self._random()
            model.encoder.load_state_dict(
                read_official_encoder(Path(self.weights), expected=model.encoder.state_dict())
            )
            return Backbone(model, spec=self)
        return Backbone(self._pretrained(find_weights(self.weights)), spec=self)

    def build_without_weights(self) -> Backbone:
        """The same module with untrained weights: for counts on the meta device, or to load a run's checkpoint."""
        return Backbone(self._random(), spec=self)

    def _config_fields(self) -> dict[str, Any]:
        return {
            "patch_size": self.patch,
            "tubelet_size": self.tubelet,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "mlp_ratio": self.mlp_ratio,
        }

    def _free_fields(self) -> dict[str, Any]:
        """Settings that no weight depends on; positions are computed, not learned, so any size will do."""
        return {"crop_size": self.size, "frames_per_clip": self.frames, "drop_path_rate": self.drop_path}

    def _random(self) -> Any:
        from transformers import VJEPA2Config, VJEPA2Model

        from calot.models.attention import IMPLEMENTATION

        fields = self._config_fields() | self._free_fields()
        config = VJEPA2Config(**fields, pred_num_hidden_layers=1, attn_implementation=IMPLEMENTATION)
        model = VJEPA2Model(config)
        model.predictor = nn.Identity()
        return model

    def _pretrained(self, folder: Path) -> Any:
        from transformers import VJEPA2Config, VJEPA2Model

        from calot.models.attention import IMPLEMENTATION

        found = VJEPA2Config.from_pretrained(folder)
        wrong = {k: (v, getattr(found, k)) for k, v in self._config_fields().items() if getattr(found, k) != v}
        if wrong:
            listed = ", ".join(f"{k} {theirs} where the experiment says {ours}" for k, (ours, theirs) in wrong.items())
            raise CalotError(
                f"weights={self.weights!r} are of another size: {listed}. Set the backbone's fields to match."
            )
        model, info = VJEPA2Model.from_pretrained(
            folder,
            **self._free_fields(),
            attn_implementation=IMPLEMENTATION,
            dtype=torch.float32,
            output_loading_info=True,
        )
        missing = sorted(k for k in info["missing_keys"] if k.startswith("encoder."))
        if missing:
            raise CalotError(f"weights={self.weights!r} lack {len(missing)} encoder tensors, first {missing[0]}")
        model.predictor = nn.Identity()
        return model


class Backbone(nn.Module):
    """The encoder alone: normalised clips in, tokens out. `model` is a VJEPA2Model without its predictor."""

    model: Any

    def __init__(self, model: nn.Module, *, spec: VJEPA2) -> None:
        super().__init__()
        self.model, self.spec = model, spec

    def forward(self, video: Shaped[Tensor, "b t c h w"]) -> Tokens:
        """Encode clips of exactly the size this backbone was built for. Raises CalotError for any other."""
        t, _, h, w = video.shape[1:]
        if (t, h, w) != (self.spec.frames, self.spec.size, self.spec.size):
            raise CalotError(
                f"a clip of {t} frames of {h} x {w} reached a backbone built for {self.spec.frames} of "
                f"{self.spec.size} x {self.spec.size}: its positions would be wrong. "
                "Set backbone.size and backbone.frames."
            )
        return Tokens(values=self.model.encoder(video).last_hidden_state, grid=self.spec.grid)

    def checkpoint_gradients(self) -> None:
        """From now on keep only what enters each layer that trains, and compute the rest of it again for its gradient.

        Dropout and drop path draw the same again; the layers' seams are carried (`attention.py`).
        """
        self.model.activation_checkpointing_enable({"use_reentrant": False})

    def train(self, mode: bool = True) -> Backbone:
        """Layers in which nothing trains stay in evaluation mode: stochastic depth is for what learns from it."""
        super().train(mode)
        for layer in self.model.encoder.layer:
            layer.train(mode and any(p.requires_grad for p in layer.parameters()))
        return self
