"""Does a linear probe on thumbnails tell the criteria apart? A model that learns what can be seen from few operations.

A backbone that never trains: each frame's 16 x 16 thumbnail is a token; the head is linear on their mean.
    calot train tests/helpers/thumbnail_probe.py --data ROOT --scale tiny
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from calot.config.fields import Range, Size
from calot.experiment import Experiment
from calot.models.backbones.protocol import Backbone, BackboneSpec, Layout
from calot.models.heads import LinearHead
from calot.models.pooling import MeanPooling
from calot.train.stage import Stage

SIDE = 16


@dataclass(frozen=True, kw_only=True)
class Thumbnails(BackboneSpec):
    """One token per frame: its colours at 16 x 16."""

    name: ClassVar[str] = "Thumbnails"
    layout: ClassVar[Layout] = Layout(
        layers="layers", embedding="embedding", final_norm="norm", attention=None, linears={}
    )

    size: Annotated[int, Range(ge=1, le=4096)] = 256
    frames: Annotated[int, Range(ge=1, le=1024)] = 16
    width: Size = 3 * SIDE * SIDE
    layers: Annotated[int, Range(ge=1, le=1)] = 1

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.frames, 1, 1

    def build(self) -> Backbone:
        return self.build_without_weights()

    def build_without_weights(self) -> Backbone:
        return Backbone(_Shrink(), spec=self)

    def encode(self, network: Any, video: Tensor) -> Tensor:
        out: Tensor = network(video)
        return out

    def at_tiny_scale(self) -> "Thumbnails":
        return replace(self, size=64, frames=8)

    def describe(self) -> str:
        return f"{self.name}, {SIDE} x {SIDE}"


class _Shrink(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layers = nn.Identity(), nn.ModuleList([nn.Identity()])
        self.norm = nn.LayerNorm(3 * SIDE * SIDE)

    def forward(self, video: Tensor) -> Tensor:
        small = F.adaptive_avg_pool2d(video.flatten(0, 1), SIDE)
        tokens: Tensor = self.norm(small.flatten(1).unflatten(0, video.shape[:2]))
        return tokens


experiment = Experiment(
    name="thumbnail_probe",
    backbone=Thumbnails(),
    pooling=MeanPooling(),
    head=LinearHead(),
    train=Stage(lr=1e-3, weight_decay=0.1, epochs=40, patience=10),
)
