"""V-JEPA 2's rotary embedding with tables computed once: transformers' own numbers, bit for bit.

transformers computes angles, sines and cosines in every layer and pass, for queries and for keys, and rotates the three
axes apart. At full size that moves about 9 GB of a clip through memory, which is much of a step on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention

_TABLES = "calot_rotary_tables"


class TabledRotaryAttention(VJEPA2RopeAttention):  # type: ignore[misc]
    """`x * cos + swapped(x) * sin`, where `swapped` exchanges the two of each rotated pair and `sin` carries the sign.

    The tables are read off transformers' own rotation of unit vectors, so they have its precision and its order of
    axes whatever its version, under autocast too. Explicit positions are left to it.
    """

    def get_position_ids(self, x: Tensor, masks: Tensor | None = None) -> Any:
        if masks is not None:
            return super().get_position_ids(x, masks)
        held: dict[Any, Any] = vars(self)[_TABLES]
        key = (x.shape[1], x.device)
        if key not in held:
            with torch.inference_mode(False):
                held[key] = super().get_position_ids(x)
        return held[key]

    def apply_rotary_embeddings(self, qk: Float[Tensor, "b heads n d"], pos_ids: Any) -> Float[Tensor, "b heads n d"]:
        if pos_ids is not vars(self)[_TABLES].get((qk.shape[2], qk.device)):
            rotated: Tensor = super().apply_rotary_embeddings(qk, pos_ids)
            return rotated
        cos, sin = self._tables(qk)
        swapped: Tensor = qk.reshape(*qk.shape[:-1], -1, 2).flip(-1).reshape(qk.shape)
        return qk * cos + swapped * sin

    def _tables(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines `(1, 1, n, d)` for that many tokens, in that precision."""
        held: dict[Any, Any] = vars(self)[_TABLES]
        kind = like.device.type
        cast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        key = (like.shape[2], like.dtype, like.device, cast)
        if key not in held:
            held[key] = self._read_off(like)
        tables: tuple[Tensor, Tensor] = held[key]
        return tables

    def _read_off(self, like: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False), torch.no_grad():  # a later pass may need them for its gradient
            first = torch.zeros(1, 1, *like.shape[2:], dtype=like.dtype, device=like.device)
            first[..., ::2] = 1
            position = super().get_position_ids(first[0])  # not the one held, which would ask for tables again
            ones = super().apply_rotary_embeddings(first, position)
            others = super().apply_rotary_embeddings(1 - first, position)
            return torch.where(first.bool(), ones, others), torch.where(first.bool(), others, ones)


def with_tables(network: nn.Module) -> None:
    """Have every rotary attention of a network read its tables, which all of them share."""
    shared: dict[Any, Any] = {}
    for module in network.modules():
        if type(module) is VJEPA2RopeAttention:
            module.__class__ = TabledRotaryAttention
            vars(module)[_TABLES] = shared
