"""SwinV2's attention, read while transformers' own code computes it: it calls no kernel that another could stand in
for, so hooks hand out what its linears give, and what distance and walls add (Liu et al. 2022, sec. 3.3)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from calot.errors import CalotError
from calot.models.windows import WALL, WindowPartition
from calot.types import QueryKey

#: The largest log of a head's sharpness, and the range of a position bias.
_SHARPEST, _BIAS_RANGE = math.log(100.0), 16.0


@contextlib.contextmanager
def watched_block(block: Any, *, frames: int, tap: Callable[[QueryKey], None]) -> Iterator[None]:
    """Call `tap` with a Swin block's queries and keys as it computes, adapters included; clips have so many frames.

    Raises CalotError where windows do not tile the block's grid.
    """
    attention, latest = block.attention.self, dict[str, Tensor]()
    windows = _partition(block, frames=frames)

    def hand_out(_module: Any, given: tuple[Any, ...], named: dict[str, Any], _output: Any) -> None:
        walls = given[1] if len(given) > 1 else named.get("attention_mask")
        tap(_query_key(attention, latest, walls=walls, windows=windows))

    handles = [
        *(
            getattr(attention, role).register_forward_hook(
                lambda _m, _i, output, role=role: latest.__setitem__(role, output)
            )
            for role in ("query", "key")
        ),
        attention.register_forward_hook(hand_out, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _partition(block: Any, *, frames: int) -> WindowPartition:
    rows, columns = block.input_resolution
    try:
        return WindowPartition(grid=(frames, rows, columns), side=block.window_size, shift=block.shift_size)
    except ValueError as error:
        raise CalotError(f"{error}: what pads it is not a token; give a size whose stages its windows tile") from error


def _query_key(
    attention: Any, latest: dict[str, Tensor], *, walls: Tensor | None, windows: WindowPartition
) -> QueryKey:
    heads = attention.num_attention_heads
    query, key = (
        F.normalize(x.reshape(*x.shape[:2], heads, -1).transpose(1, 2), dim=-1)
        for x in (latest["query"], latest["key"])
    )
    between = position_bias(attention)[None]
    if walls is not None:
        apart = WALL * (walls != 0).to(between.dtype)[:, None]
        between = (between + apart).repeat(len(query) // len(walls), 1, 1, 1)
    return QueryKey(
        query=query * attention.logit_scale.clamp(max=_SHARPEST).exp(),
        key=key,
        scaling=1.0,
        between=between.expand(len(query), -1, -1, -1),
        parts=windows.count,
        order=windows.order(device=query.device),
    )


def position_bias(attention: Any) -> Float[Tensor, "heads s s"]:
    """What distance adds to the score of each pair of tokens in a window."""
    size, _ = attention.relative_position_index.shape
    table = attention.continuous_position_bias_mlp(attention.relative_coords_table).flatten(0, -2)
    pairs: Tensor = table[attention.relative_position_index.flatten()].reshape(size, size, -1)
    return _BIAS_RANGE * torch.sigmoid(pairs.permute(2, 0, 1))
