"""A small video transformer with attention in windows, trained from scratch: Swin V2's layer (Liu et al. 2022) without
its merging of patches, on tubes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
import transformers
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.swinv2.modeling_swinv2 import Swinv2DropPath

from calot.config.fields import FractionBelowOne, Path, Range, Size
from calot.models.backbones.protocol import Layout
from calot.models.backbones.vision_transformer import VideoTransformer
from calot.models.windows import WindowPartition, Windows

#: Scores are a cosine over a learned temperature, which is never below 0.01 (Liu et al. 2022, section 3.2).
_SHARPEST = math.log(1 / 0.01)

#: Hidden units of the network that gives the position bias, and what its sigmoid is multiplied by.
_BIAS_UNITS, _BIAS_RANGE = 512, 16


@dataclass(frozen=True, kw_only=True)
class WindowViT(VideoTransformer):
    """Windows of `window` x `window` tokens within one temporal bin, shifted in every other layer.

    Cosine attention with a learned temperature per head, a continuous position bias over log-spaced distances, and
    LayerNorm after each branch (Swin V2, sections 3.2 and 3.3). Frames meet in tubes and in pooling alone. There are no
    published weights: a folder may hold those of an earlier run.
    """

    name = "Window ViT"
    layout = Layout(
        layers="layers",
        embedding="embedding",
        final_norm="norm",
        attention="attention",
        linears={r: f"attention.{r}" for r in ("q", "k", "v", "proj")} | {"fc1": "fc1", "fc2": "fc2"},
    )

    weights: Path | None = None
    width: Size = 384
    layers: Annotated[int, Range(ge=1, le=1000)] = 12
    heads: Annotated[int, Range(ge=1, le=1024)] = 6
    window: Size = 8
    drop_path: FractionBelowOne = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.side % self.window:
            raise ValueError(f"WindowViT.window={self.window} does not divide the {self.side} tokens of a frame's side")

    def shape(self) -> dict[str, Any]:
        return super().shape() | {"mlp_ratio": self.mlp_ratio, "grid": list(self.grid), "window": self.window}

    def settings(self) -> dict[str, Any]:
        return {"drop_path_rate": self.drop_path}

    def encode(self, network: Any, video: Tensor) -> Tensor:
        return network(video)  # type: ignore[no-any-return]

    def at_tiny_scale(self) -> WindowViT:
        tiny: Any = super(WindowViT, replace(self, window=1)).at_tiny_scale()
        return replace(tiny, window=max(1, self.window * tiny.side // self.side))  # type: ignore[no-any-return]

    def sizes(self) -> str:
        return f"{super().sizes()}, windows of {self.window} x {self.window} tokens, shifted in every other layer"

    def _classes(self) -> tuple[Any, Any]:
        return _Config, _Network


class _Config(transformers.PretrainedConfig):  # type: ignore[misc]
    model_type = "calot_window_vit"

    def __init__(
        self,
        *,
        hidden_size: int = 384,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 6,
        patch_size: int = 16,
        tubelet_size: int = 2,
        mlp_ratio: float = 4.0,
        grid: Sequence[int] = (8, 16, 16),
        window: int = 8,
        drop_path_rate: float = 0.1,
        **others: Any,
    ) -> None:
        self.hidden_size, self.num_hidden_layers = hidden_size, num_hidden_layers
        self.num_attention_heads, self.patch_size, self.tubelet_size = num_attention_heads, patch_size, tubelet_size
        self.mlp_ratio, self.grid, self.window, self.drop_path_rate = mlp_ratio, list(grid), window, drop_path_rate
        super().__init__(**others)


class _Network(transformers.PreTrainedModel):  # type: ignore[misc]
    config_class = _Config
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _input_embed_layer = "embedding"

    def __init__(self, config: _Config) -> None:
        super().__init__(config)
        width, tube = config.hidden_size, (config.tubelet_size, config.patch_size, config.patch_size)
        self.embedding = nn.Sequential(nn.Conv3d(3, width, tube, stride=tube), nn.Flatten(2))
        depth = config.num_hidden_layers
        places = [i / max(1, depth - 1) for i in range(depth)]
        self.layers = nn.ModuleList(_Layer(config, place=p, shifted=i % 2 == 1) for i, p in enumerate(places))
        self.norm = nn.LayerNorm(width)
        self.post_init()

    def forward(self, video: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b n d"]:
        hidden = self.embedding(video.transpose(1, 2)).mT
        for layer in self.layers:
            hidden = layer(hidden)
        normed: Tensor = self.norm(hidden)
        return normed

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv3d)):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, _CosineAttention):
            nn.init.constant_(module.temperature, math.log(10))


class _Layer(GradientCheckpointingLayer):  # type: ignore[misc]
    """Attention, then an MLP; each branch is normed at its end and dropped with the layer's rate."""

    def __init__(self, config: _Config, *, place: float, shifted: bool) -> None:
        super().__init__()
        width, hidden = config.hidden_size, int(config.hidden_size * config.mlp_ratio)
        self.attention = _CosineAttention(config, shifted=shifted)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.drop_path = Swinv2DropPath(config.drop_path_rate * place)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        x = x + self.drop_path(self.norm1(self.attention(x)))
        branch: Tensor = self.drop_path(self.norm2(self.fc2(F.gelu(self.fc1(x)))))
        return x + branch


class _CosineAttention(nn.Module):
    """Swin V2's attention within windows, through calot's seam."""

    def __init__(self, config: _Config, *, shifted: bool) -> None:
        from calot.models.attention import attend  # which itself asks for the families

        super().__init__()
        self.attend = attend
        self.config, self.heads, self.window = config, config.num_attention_heads, config.window
        width = config.hidden_size
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width, bias=False)  # a key's bias drops out
        self.v, self.proj = nn.Linear(width, width), nn.Linear(width, width)
        self.temperature = nn.Parameter(torch.zeros(self.heads))
        self.bias = nn.Sequential(nn.Linear(2, _BIAS_UNITS), nn.ReLU(), nn.Linear(_BIAS_UNITS, self.heads, bias=False))
        shift = self.window // 2 if shifted and self.window < min(config.grid[1:]) else 0
        time, rows, columns = config.grid
        self.windows = Windows(WindowPartition(grid=(time, rows, columns), side=self.window, shift=shift))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        query, key, value = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        sharpness = self.temperature.clamp(max=_SHARPEST).exp()[:, None, None]
        query, key = F.normalize(query, dim=-1) * sharpness.to(query.dtype), F.normalize(key, dim=-1)
        mixed, _ = self.attend(self, query, key, value, self.position_bias()[None], scaling=1.0, is_causal=False)
        projected: Tensor = self.proj(mixed.flatten(2))
        return projected

    def position_bias(self) -> Float[Tensor, "heads s s"]:
        """What distance adds to the score of each pair of tokens in a window (eq. 4 on the distances of eq. 5)."""
        side = self.window
        places, scores = 2 * side - 1, self.bias(self.log_distances().to(self.temperature))
        table = _BIAS_RANGE * torch.sigmoid(scores).view(places, places, self.heads)
        spot = torch.arange(side, device=table.device)
        apart = spot[:, None] - spot[None, :] + side - 1
        found: Tensor = table[apart[:, None, :, None], apart[None, :, None, :]]  # rows and columns of both tokens
        return found.reshape(side**2, side**2, self.heads).permute(2, 0, 1)

    def log_distances(self) -> Float[Tensor, "m 2"]:
        """Every distance within a window as sign times log2(1 + 8 |distance|) / 3, distances being -1 to 1."""
        steps = torch.arange(1 - self.window, self.window, dtype=torch.float32) * 8 / max(1, self.window - 1)
        spaced = steps.sign() * (1 + steps.abs()).log2() / 3
        return torch.cartesian_prod(spaced, spaced)
