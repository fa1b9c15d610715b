"""What training changed inside an encoder: its weights, its attention maps, its tokens, against another run's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn

from calot.analysis.attention import AttentionPass
from calot.errors import CalotError
from calot.models.attention import watched
from calot.models.attention_maps import linear_cka, maps_apart
from calot.models.backbones.protocol import Backbone
from calot.types import Batch, QueryKey

#: Linears by their roles, in the order of the table.
TARGETS = ("q", "k", "v", "proj", "fc1", "fc2")


def require_comparable(one: Backbone, other: Backbone) -> None:
    """Raises CalotError where layers, widths or tokens of two backbones do not correspond."""
    for what, of in (
        ("layers", lambda backbone: len(backbone.layers)),
        ("token width", lambda backbone: backbone.spec.width),
        ("token grid", lambda backbone: backbone.spec.grid),
        ("family", lambda backbone: backbone.spec.name),
    ):
        mine, theirs = of(one), of(other)
        if mine != theirs:
            raise CalotError(
                f"--against: its {what} is {theirs}, and this run's {mine}: maps and weights do not correspond. Name a "
                "run of the same backbone."
            )


@torch.inference_mode()
def attention_changes(
    one: AttentionPass, other: AttentionPass, *, on_clips: Callable[[int, int], None] | None = None
) -> pl.DataFrame:
    """A row per clip, layer and head: `apart`, the mean total variation distance of the two maps, and `cka` of the
    clip's tokens after that layer, which is of all heads.

    Queries, keys and tokens of all layers of one model are held meanwhile, for about 2,048 tokens at a time.
    """
    require_comparable(one.model.backbone, other.model.backbone)
    rows, done = list[pl.DataFrame](), 0
    for mine, theirs in zip(one.clip_batches(), other.clip_batches(), strict=True):
        apart, cka = _both(one, other, mine=mine, theirs=theirs)
        table, indices = one.dataset.table, mine.index.cpu().numpy()
        for layer, distances in apart.items():
            _require_sound(distances, cka[layer], one=one, layer=layer, indices=indices)
            heads = distances.shape[1]
            frame: dict[str, Any] = {
                "video": np.repeat(table.videos[indices], heads).tolist(),
                "frame": np.repeat(table.frame_numbers[indices], heads),
                "layer": layer,
                "head": np.tile(np.arange(heads), len(indices)),
                "apart": distances.reshape(-1),
                "cka": np.repeat(cka[layer], heads),
            }
            rows.append(pl.DataFrame(frame))
        done += len(mine)
        if on_clips is not None:
            on_clips(done, len(one.dataset))
    return pl.concat(rows)


def _both(
    one: AttentionPass, other: AttentionPass, *, mine: Batch, theirs: Batch
) -> tuple[dict[int, Any], dict[int, Any]]:
    """By layer, how far the maps are apart `(b, heads)`, and CKA `(b,)`."""
    held, apart, layers = dict[int, QueryKey](), dict[int, Any](), range(len(one.model.backbone.layers))

    def compare(number: int, qk: QueryKey) -> None:
        if held[number].query.shape[1] != qk.query.shape[1]:
            raise CalotError(
                f"--against: layer {number} has {qk.query.shape[1]} heads there and {held[number].query.shape[1]} "
                "here: maps do not correspond. Name a run of the same backbone."
            )
        apart[number] = maps_apart(held[number], qk).cpu().numpy()

    levels = []
    for model, batch, watch in ((one, mine, held.__setitem__), (other, theirs, compare)):
        with ExitStack() as around:
            levels.append(around.enter_context(model.model.backbone.levels(layers)))
            around.enter_context(watched(model.model, watch=watch))
            around.enter_context(model.accelerator.autocast())
            model.model.eval().encode(batch)
    ours, others = levels
    cka = {n: np.array([linear_cka(a, b) for a, b in zip(ours[n], others[n], strict=True)]) for n in layers}
    return dict(sorted(apart.items())), cka


def _require_sound(distances: Any, cka: Any, *, one: AttentionPass, layer: int, indices: Any) -> None:
    for name, values in (("apart", distances.max(axis=1)), ("cka", cka)):
        if (wrong := ~np.isfinite(values)).any():
            clip = one.clip(int(indices[wrong][0]))
            raise CalotError(
                f"layer {layer}, {clip}: {name} between the two runs is not finite: the weights of one have diverged, "
                "or its tokens are all alike. Look at each run alone, without --against."
            )


@torch.inference_mode()
def weight_changes(one: Backbone, other: Backbone) -> pl.DataFrame:
    """A row per layer and target: `relative`, the Frobenius norm of the difference of the two weights as they act
    (adapters merged) over that of the other's."""
    require_comparable(one, other)
    rows = []
    for layer in range(len(one.layers)):
        for target in TARGETS:
            if target not in one.spec.layout.linears:
                continue
            theirs = merged_weight(other.linear(layer, target))
            apart = merged_weight(one.linear(layer, target)) - theirs
            relative = float(torch.linalg.norm(apart) / torch.linalg.norm(theirs))
            if not np.isfinite(relative):
                raise CalotError(
                    f"layer {layer}, {target}: the two runs' weights differ by {relative} of their size: one of them "
                    "is not finite or all zero. Look at both runs' checkpoints."
                )
            rows.append({"layer": layer, "target": target, "relative": relative})
    return pl.DataFrame(rows)


def merged_weight(linear: nn.Module) -> Float[Tensor, "out in"]:
    """A linear's weight as it acts, whatever adapter it carries: what it makes of each unit vector, less its bias.

    In evaluation mode, so that an adapter draws no dropout; in float32 at least.
    """
    inner: Any = getattr(linear, "base_layer", linear)
    plain: Tensor = inner.weight
    if inner is linear:
        return plain.float()
    was_training = linear.training
    linear.eval()
    unit = torch.eye(plain.shape[1], dtype=plain.dtype, device=plain.device)
    acted: Tensor = linear(unit) - linear(torch.zeros_like(unit[:1]))
    linear.train(was_training)
    return acted.mT.float()
