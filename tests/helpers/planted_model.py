"""A network whose logits are known sums of pixels, so that what covering a block does is known, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calot.config.fields import Size
from calot.models.backbones.protocol import Backbone, BackboneSpec, Layout
from calot.models.classifier import Classifier
from calot.models.heads import LinearHead
from calot.models.pooling import MeanPooling


@dataclass(frozen=True, kw_only=True)
class PatchMeans(BackboneSpec):
    """Tokens are the mean colours of patches of a frame, times what `gains` (a buffer of each token) says."""

    name: ClassVar[str] = "Patch means"
    layout: ClassVar[Layout] = Layout(
        layers="layers", embedding="embedding", final_norm="norm", attention=None, linears={}
    )

    size: int = 32
    frames: int = 4
    width: Size = 3
    layers: int = 1
    patch: int = 8

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.frames, self.size // self.patch, self.size // self.patch

    def build(self) -> Backbone:
        network = nn.Module()
        network.layers = nn.ModuleList([nn.Identity()])
        network.gains = nn.Parameter(torch.ones(self.grid), requires_grad=False)
        return Backbone(network, spec=self)

    build_without_weights = build

    def encode(self, network: Any, video: Tensor) -> Tensor:
        means = F.avg_pool3d(video.transpose(1, 2), (1, self.patch, self.patch))
        return (means * network.gains).flatten(2).transpose(1, 2)

    def at_tiny_scale(self) -> PatchMeans:
        return self

    def describe(self) -> str:
        return self.name


def seeing(gains: Tensor, *, weights: Tensor | None = None) -> Classifier:
    """A classifier that sees each place of the grid as much as `gains (t, y, x)` say; `weights (k, 3)` of colours."""
    model = Classifier(
        backbone=PatchMeans(frames=gains.shape[0]).build(), pooling=MeanPooling(), heads=[LinearHead(norm=False)]
    )
    linear: Any = model.get_submodule("head")[0]
    with torch.no_grad():
        model.backbone.model.gains.copy_(gains)
        linear.weight.copy_(torch.eye(3) if weights is None else weights)
        linear.bias.fill_(0.5)
    return model.eval()
