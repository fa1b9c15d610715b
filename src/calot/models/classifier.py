"""Backbone, pooling and head in one module: clips in, raw logits out."""

from __future__ import annotations

import contextlib

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calot.models.vjepa2 import Backbone
from calot.types import Outputs


class Classifier(nn.Module):
    """Tap points, by name: `backbone`, `pooling.attention_map`, `pooling`, `head`.

    Where no parameter of the backbone trains, it runs without a graph and in evaluation mode, also while training.
    """

    def __init__(self, *, backbone: Backbone, pooling: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.pooling, self.head = backbone, pooling, head

    @property
    def backbone_trains(self) -> bool:
        return any(p.requires_grad for p in self.backbone.parameters())

    def forward(self, video: Float[Tensor, "b t c h w"]) -> Outputs:
        with contextlib.nullcontext() if self.backbone_trains else torch.no_grad():
            tokens = self.backbone(video)
        return Outputs(logits=self.head(self.pooling(tokens)).float(), tokens=tokens)

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        self.backbone.train(mode and self.backbone_trains)
        return self

    def parameter_counts(self) -> dict[str, int | dict[str, int]]:
        """`total`, `trainable`, and the count of each group."""
        groups = {name: _count(module) for name, module in self.named_children()}
        trainable = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return {"total": sum(groups.values()), "trainable": trainable, "groups": groups}


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
