"""The segmentation decoder: from the tokens of one temporal bin to a mask of the anatomy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from calot.config.fields import FractionBelowOne, Key, Since, Size
from calot.criteria import MASK_CLASSES
from calot.models.heads import Features, Head
from calot.types import Tokens, at_least_float32


@dataclass(frozen=True, kw_only=True)
class Segmentation(Head):
    """LayerNorm, Linear, GELU, dropout on tokens; two ConvTranspose (k4 s2 p1), each with a norm and GELU; 1 x 1.

    `hidden` halves at each ConvTranspose. `groups` of GroupNorm, whose statistics are a clip's own, so that neither
    the micro-batch nor the other clips can change a result; None is BatchNorm, the documented way, where they can.
    """

    reads_masks: ClassVar[bool] = True
    reads_tokens: ClassVar[bool] = True

    name: Annotated[Key, Since("0.2.0", before="segmentation")] = "segmentation"
    hidden: Size = 256
    dropout: FractionBelowOne = 0.1
    groups: Size | None = 8

    def __post_init__(self) -> None:
        if self.hidden % 4 or (self.groups is not None and (self.hidden // 4) % self.groups):
            raise ValueError(
                f"Segmentation.hidden={self.hidden}: a quarter of it must divide into groups={self.groups}"
            )

    def build(self, *, width: int) -> SegmentationDecoder:
        return SegmentationDecoder(self, width=width)

    def read(self, module: nn.Module, features: Features) -> Tensor | None:
        """Scores of every requested mask layer, `Float[b m s h w]`, over all tokens, masked or not."""
        if features.masks is None:
            return None
        scores: Tensor = module(features.tokens, bins=features.bin_of(features.masks.place))
        return scores

    def narrowed(self, ratio: float) -> Segmentation:
        step = 4 * (self.groups or 1)
        return replace(self, hidden=max(step, step * round(self.hidden * ratio / step)))


class SegmentationDecoder(nn.Module):
    """One mask per requested layer: raw class scores at `MASK_PIXELS` pixels per token."""

    def __init__(self, spec: Segmentation, *, width: int) -> None:
        super().__init__()
        self.spec = spec
        half, quarter = spec.hidden // 2, spec.hidden // 4
        self.project = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, spec.hidden), nn.GELU(), nn.Dropout(spec.dropout)
        )
        self.upsample = nn.Sequential(
            nn.ConvTranspose2d(spec.hidden, half, 4, stride=2, padding=1),
            self._norm(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 4, stride=2, padding=1),
            self._norm(quarter),
            nn.GELU(),
            nn.Conv2d(quarter, len(MASK_CLASSES), 1),
        )

    def forward(self, tokens: Tokens, *, bins: Int[Tensor, "b m"]) -> Float[Tensor, "b m s h w"]:
        """Decode the temporal bins `bins` of each clip. Raises ValueError for BatchNorm over a batch of one."""
        t, h, w = tokens.grid
        if self.training and self.spec.groups is None and bins.numel() < 2:
            raise ValueError("Segmentation.groups=None (BatchNorm) cannot train on a batch of one: its statistics lie")
        by_bin = tokens.values.reshape(len(bins), t, h * w, -1)
        chosen = by_bin[torch.arange(len(bins), device=bins.device)[:, None], bins]
        projected = self.project(chosen.flatten(0, 1)).transpose(1, 2)
        grid = projected.reshape(*projected.shape[:2], h, w)
        scores: Tensor = at_least_float32(self.upsample(grid))
        return scores.reshape(*bins.shape, *scores.shape[1:])

    def _norm(self, channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels) if self.spec.groups is None else nn.GroupNorm(self.spec.groups, channels)
