"""V-JEPA 2.1's encoder (2026), which transformers does not have: its layers are V-JEPA 2's, its positions are not.

Written from the published code (facebookresearch/vjepa2, `app/vjepa_2_1`); `tests/models/backbones/test_vjepa21.py`
holds the formulas against it. What differs from V-JEPA 2: each rotated pair has one angle (2.0 gives its two elements
those of two pairs); rows and columns are spread over the 16 places of the 256-pixel grid at any size; a learned vector
says video or image; a single image has a patch embedding of its own; four layers' outputs each have a norm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.models.vjepa2.configuration_vjepa2 import VJEPA2Config
from transformers.models.vjepa2.modeling_vjepa2 import (
    VJEPA2Embeddings,
    VJEPA2Encoder,
    VJEPA2PreTrainedModel,
    VJEPA2RopeAttention,
)

from calot.config.fields import Path, Range
from calot.models.backbones.jepa import JEPAEncoder
from calot.models.backbones.official import SECOND_1, encoder_names

#: Rows and columns of the grid that positions are spread over: 256 pixels in patches of 16, whatever a clip's size.
TRAINED_SIDE = 16

#: The layers whose outputs have a norm of their own, by depth: those that its training distilled. The last is the
#: encoder's final norm.
LEVELS = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23), 40: (9, 19, 29, 39), 48: (11, 23, 37, 47)}

#: A tensor of the official encoder, below any prefix.
_OFFICIAL = re.compile(
    r"(?:(?:model|encoder)\.)*((?:blocks|patch_embed(?:_img)?|norms_block)\..+|(?:img|video)_mod_embed)"
)

#: Cosines and sines `(n, e)` of each token's angles, e being the width of a head.
Turns = tuple[Float[Tensor, "n e"], Float[Tensor, "n e"]]


@dataclass(frozen=True, kw_only=True)
class VJEPA21(JEPAEncoder):
    """V-JEPA 2.1's encoder. Defaults: ViT-L, 16 frames of 256 x 256; the published weights take 384, too.

    `weights`: an official `.pt` file (ViT-B and L hold the encoder under `ema_encoder`, ViT-g and G under
    `target_encoder`), a folder with one, a folder that calot wrote, or None for random ones. ViT-B: width 768, 12
    layers and heads; g: width 1408, 40 layers, 22 heads, mlp_ratio 4.3637; G: width 1664, 48 layers, 26 heads,
    mlp_ratio 4.9231. A single image (frames=1, tubelet=1) goes through the image's patch embedding.

    `level_norms`: the outputs of the four normed layers reach a pooling of several layers through their own norms,
    which stay as published.
    """

    name = "V-JEPA 2.1 encoder"
    official = SECOND_1

    weights: Path | None = "vjepa2_1_vitl_dist_vitG_384.pt"
    tubelet: Annotated[int, Range(ge=1, le=64)] = 2
    level_norms: bool = False

    def __post_init__(self) -> None:
        if (self.frames == 1) != (self.tubelet == 1):
            raise ValueError(
                f"VJEPA21.tubelet={self.tubelet} of frames={self.frames}: tubes of one frame are for a single image"
            )
        super().__post_init__()
        if self.side < 2:
            raise ValueError(
                f"VJEPA21.size={self.size} is one patch of {self.patch}: positions need at least two by two"
            )
        if self.level_norms and self.depth_of_weights not in LEVELS:
            raise ValueError(
                f"VJEPA21.level_norms: published for {', '.join(map(str, LEVELS))} layers, not {self.layers}"
            )

    @property
    def levels(self) -> tuple[int, ...]:
        """The layers whose outputs have norms of their own, the last one's aside."""
        return LEVELS[self.depth_of_weights][:-1] if self.level_norms else ()

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"levels": list(self.levels)}

    def turns(self, network: Any, hidden: Tensor) -> Turns:
        return network.turns(self.grid, like=hidden)  # type: ignore[no-any-return]

    def level(self, network: Any, hidden: Tensor, *, layer: int) -> Tensor:
        place = layer % self.layers
        return network.encoder.level_norms[str(place)](hidden) if place in self.levels else hidden

    def at_tiny_scale(self) -> VJEPA21:
        image = self.frames == 1
        tiny: Any = super(VJEPA21, replace(self, level_norms=False, frames=2, tubelet=2)).at_tiny_scale()
        return replace(tiny, frames=1, tubelet=1) if image else tiny  # type: ignore[no-any-return]

    def official_names(self, name: str, tensor: Tensor) -> Mapping[str, Tensor]:
        own, other = ("img", "video") if self.frames == 1 else ("video", "img")
        if name == f"{other}_mod_embed" or name.startswith("patch_embed_img." if own == "video" else "patch_embed."):
            return {}
        if name == f"{own}_mod_embed":
            return {"embeddings.modality": tensor}
        if name.startswith("norms_block."):
            _, number, field = name.split(".")
            norms = {len(LEVELS[24]) - 1: "layernorm"} | {i: f"level_norms.{n}" for i, n in enumerate(self.levels)}
            return {f"{norms[int(number)]}.{field}": tensor} if int(number) in norms else {}
        return encoder_names(name.replace("patch_embed_img.", "patch_embed."), tensor)

    @classmethod
    def translated(cls, name: str, tensor: Tensor) -> Mapping[str, Tensor] | str | None:
        """As the protocol says, and official names of a video's encoder."""
        if (official := _OFFICIAL.fullmatch(name)) is None or ".lora_" in name:
            return super().translated(name, tensor)
        parts = cls().official_names(official[1], tensor)
        return {
            f"encoder.{k}": v for k, v in parts.items()
        } or "image's patches or a lower layer's norm: not in the path"

    def _classes(self) -> tuple[Any, Any]:
        import calot.models.attention  # noqa: F401  # registers the attention that has a seam

        return VJEPA21Config, VJEPA21Network


class VJEPA21Config(VJEPA2Config):  # type: ignore[misc]
    """transformers' configuration of V-JEPA 2, and which lower layers' outputs have norms of their own."""

    model_type = "calot_vjepa2_1"

    def __init__(self, *, levels: Sequence[int] = (), **others: Any) -> None:
        self.levels = list(levels)
        super().__init__(**others)


class VJEPA21Network(VJEPA2PreTrainedModel):  # type: ignore[misc]
    """The encoder as a model of transformers. It takes clips of any size, square or not, of a whole number of tubes."""

    config: VJEPA21Config
    config_class = VJEPA21Config
    base_model_prefix = ""

    def __init__(self, config: VJEPA21Config) -> None:
        super().__init__(config)
        self.encoder = VJEPA2Encoder(config)
        width = config.hidden_size
        self.encoder.embeddings = _Embeddings(config, hidden_size=width)
        for layer in self.encoder.layer:
            layer.attention = _PairedRotaryAttention(config, width, config.num_attention_heads)
        norms = {str(n): _FrozenNorm(width, eps=config.layer_norm_eps) for n in config.levels}
        if norms:
            self.encoder.level_norms = nn.ModuleDict(norms)
        self.post_init()

    def forward(self, video: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b n d"]:
        """Tokens in the order time, row, column."""
        return self.outputs(video)[-1]

    def outputs(self, video: Float[Tensor, "b t c h w"]) -> list[Float[Tensor, "b n d"]]:
        """The normed outputs of the layers in `levels`, lowest first, and of the last one."""
        bins, (height, width) = video.shape[1] // self.config.tubelet_size, video.shape[-2:]
        grid = (bins, height // self.config.patch_size, width // self.config.patch_size)
        hidden = self.encoder.embeddings(video)
        turns, found = self.turns(grid, like=hidden), []
        for number, layer in enumerate(self.encoder.layer):
            hidden = layer(hidden, turns)[0]
            if number in (self.config.levels):
                found.append(self.encoder.level_norms[str(number)](hidden))
        return [*found, self.encoder.layernorm(hidden)]

    def turns(self, grid: tuple[int, int, int], *, like: Tensor) -> Turns:
        """The angles of a grid's tokens, in the precision of `like` or in float32."""
        head = self.config.hidden_size // self.config.num_attention_heads
        dtype = torch.promote_types(like.dtype, torch.float32)
        return rotary_turns(grid, head=head, dtype=dtype, device=like.device)


def rotary_turns(grid: tuple[int, int, int], *, head: int, dtype: torch.dtype, device: torch.device) -> Turns:
    """Cosines and sines of `place * 10000^(-2 i / m)` for pair i of the m elements that turn by time, row or column.

    m is the largest even number not above a third of `head`; what is left of a head does not turn. A frame's place is
    its number, a row's `row * 15 / (rows - 1)`. Those are rounded to float32, as in the published code.
    """
    axis = 2 * (head // 3 // 2)
    powers = torch.arange(axis // 2, dtype=dtype, device=device) / (axis / 2)
    speed = 1.0 / 10000**powers
    angles = []
    for number, count in enumerate(grid):
        place = torch.arange(count, dtype=torch.float32, device=device)
        if number:
            place = place * (TRAINED_SIDE - 1) / (count - 1)
        shape = [count if n == number else 1 for n in range(3)]
        pairs = (place[:, None] * speed).repeat_interleave(2, dim=-1)
        angles.append(pairs.view(*shape, axis).expand(*grid, axis))
    still = torch.zeros(*grid, head - 3 * axis, dtype=dtype, device=device)
    whole = torch.cat([*angles, still], dim=-1).flatten(0, 2)
    return whole.cos(), whole.sin()


class _PairedRotaryAttention(VJEPA2RopeAttention):  # type: ignore[misc]
    """transformers' attention of V-JEPA 2, whose layer hands on the angles in the place of positions."""

    def get_position_ids(self, x: Tensor, masks: Any = None) -> Any:
        return masks

    def apply_rotary_embeddings(self, qk: Float[Tensor, "b heads n e"], pos_ids: Turns) -> Float[Tensor, "b heads n e"]:
        cos, sin = (x.to(qk.dtype) for x in pos_ids)
        first, second = qk.reshape(*qk.shape[:-1], -1, 2).unbind(dim=-1)
        return qk * cos + torch.stack((-second, first), dim=-1).flatten(-2) * sin


class _Embeddings(VJEPA2Embeddings):  # type: ignore[misc]
    """Patches, and the vector that says what they are of."""

    def __init__(self, config: VJEPA21Config, hidden_size: int) -> None:
        super().__init__(config, hidden_size=hidden_size)
        self.modality = nn.Parameter(torch.zeros(1, 1, hidden_size))

    def forward(self, pixel_values_videos: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b n d"]:
        tokens: Tensor = super().forward(pixel_values_videos)
        return tokens + self.modality


class _FrozenNorm(nn.Module):
    """A LayerNorm that no adaptation trains."""

    weight: Tensor
    bias: Tensor

    def __init__(self, width: int, *, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(width))
        self.register_buffer("bias", torch.zeros(width))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return nn.functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
