"""The one seam into V-JEPA 2's attention: read its real queries and keys, add a bias to its scores.

The implementation "calot" is transformers' "sdpa", bit for bit, on any layer without a seam. A seam is an attribute of
one attention module, put there by `tapped` and `biased` and taken away by them. It sits where the kernel is called,
after LoRA and the rotary embedding: what it reads is what the model computes, in every form of adaptation.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2Layer

from calot.errors import CalotError
from calot.types import QueryKey

#: The name to give as `attn_implementation`.
IMPLEMENTATION = "calot"
_ENCODER_LAYER = re.compile(r"(?:^|(?:^|\.)encoder\.)layer\.(\d+)$")  # never `predictor.layer.0`


@dataclass(frozen=True, kw_only=True)
class AttentionSeam:
    """What one attention module does beside its own work: hand out its queries and keys, add a bias to its keys."""

    taps: tuple[Callable[[QueryKey], None], ...] = ()
    bias: Tensor | None = None


@contextlib.contextmanager
def tapped(model: nn.Module, *, layers: Sequence[int] = (-1,)) -> Iterator[dict[int, QueryKey]]:
    """Collect the queries and keys of these layers (-1 is the last), with their gradient, under the numbers given.

    `model` may be anything around one encoder: Classifier, Backbone, a peft model. The dict holds the latest forward
    pass. A frozen backbone runs without a graph, so there the tensors have no gradient.
    """
    seen: dict[int, QueryKey] = {}
    with contextlib.ExitStack() as stack:
        for number, block in _chosen_layers(model, layers):
            stack.enter_context(_with_seam(block, tap=partial(seen.__setitem__, number)))
        yield seen


@contextlib.contextmanager
def biased(model: nn.Module, *, bias: Float[Tensor, "b 1 1 n"], layers: Sequence[int] | None = None) -> Iterator[None]:
    """Add `bias`, in logits, to the scores of each key, in these layers or all. Biases of nested calls add up.

    Use a large negative number such as -1e4 to hide a token: an infinite one gives NaN where it hides every key.
    """
    if not torch.isfinite(bias).all():
        raise ValueError("attention bias holds infinite or NaN values; use a finite one, such as -1e4 to hide a token")
    numbers = range(len(_encoder_layers(model))) if layers is None else layers
    with contextlib.ExitStack() as stack:
        for _, block in _chosen_layers(model, numbers):
            stack.enter_context(_with_seam(block, bias=bias))
        yield


def _attention_forward(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """transformers' "sdpa" with this module's seam, if it has one."""
    seam = _seam_of(module)
    if seam is not None:
        bias = None if seam.bias is None else seam.bias.to(query)
        for tap in seam.taps:
            tap(_query_key(query, key, scaling=options.get("scaling"), mask=attention_mask, bias=bias))
        if bias is not None:
            attention_mask = bias if attention_mask is None else attention_mask + bias
    result: tuple[Tensor, None] = AttentionInterface()["sdpa"](module, query, key, value, attention_mask, **options)
    return result


AttentionInterface.register(IMPLEMENTATION, _attention_forward)


def _query_key(
    query: Tensor, key: Tensor, *, scaling: float | None, mask: Tensor | None, bias: Tensor | None
) -> QueryKey:
    if mask is not None:
        raise NotImplementedError("a tapped layer was given an attention mask, which its statistics would not see")
    if bias is not None:
        bias = bias.expand(query.shape[0], 1, 1, key.shape[2])
    return QueryKey(query=query, key=key, scaling=query.shape[-1] ** -0.5 if scaling is None else scaling, bias=bias)


def _seam_of(attention: nn.Module) -> AttentionSeam | None:
    seam: AttentionSeam | None = vars(attention).get("calot_seam")
    return seam


@contextlib.contextmanager
def _holding(attention: nn.Module, seam: AttentionSeam | None) -> Iterator[None]:
    """Give this module that seam for a while."""
    before = _seam_of(attention)
    vars(attention)["calot_seam"] = seam
    try:
        yield
    finally:
        vars(attention)["calot_seam"] = before


@contextlib.contextmanager
def _with_seam(
    block: VJEPA2Layer, *, tap: Callable[[QueryKey], None] | None = None, bias: Tensor | None = None
) -> Iterator[None]:
    """Add to the seam of this layer's attention, also where the layer is computed again in the backward pass."""
    seam = _seam_of(block.attention) or AttentionSeam()
    if tap is not None:
        seam = replace(seam, taps=(*seam.taps, tap))
    if bias is not None:
        seam = replace(seam, bias=bias if seam.bias is None else seam.bias + bias)
    with _holding(block.attention, seam), _carried_through_checkpointing(block):
        yield


@contextlib.contextmanager
def _carried_through_checkpointing(block: VJEPA2Layer) -> Iterator[None]:
    """Make a checkpointed layer's second computation see the seam of its first, wherever `backward` is called."""
    checkpoint = vars(block).get("_gradient_checkpointing_func")
    if checkpoint is None or isinstance(checkpoint, _CarryingCheckpoint):
        yield
        return
    block._gradient_checkpointing_func = _CarryingCheckpoint(checkpoint, block.attention)
    try:
        yield
    finally:
        block._gradient_checkpointing_func = checkpoint


@dataclass(frozen=True)
class _CarryingCheckpoint:
    """transformers' checkpoint function for one layer, with the seam that holds at the time of the forward pass."""

    checkpoint: Callable[..., Any]
    attention: nn.Module

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        seam = _seam_of(self.attention)
        runs = 0

        def with_seam(*inputs: Any) -> Any:
            nonlocal runs
            runs += 1
            if runs == 1 and seam is not None and seam.taps and grad_wanted and not torch.is_grad_enabled():
                raise CalotError(
                    "reentrant gradient checkpointing hands out queries and keys without gradient; "
                    "enable checkpointing with {'use_reentrant': False}"
                )
            again = seam if runs == 1 or seam is None else replace(seam, taps=())  # a tap hears of a pass once
            with _holding(self.attention, again):
                return function(*inputs)

        grad_wanted = torch.is_grad_enabled()
        return self.checkpoint(with_seam, *args)


def _encoder_layers(model: nn.Module) -> dict[int, VJEPA2Layer]:
    """The layers, by number, of the one V-JEPA 2 encoder inside `model`; CalotError where there is none or more."""
    found = [
        (int(match[1]), module)
        for name, module in model.named_modules()
        if isinstance(module, VJEPA2Layer) and (match := _ENCODER_LAYER.search(name))
    ]
    if not found or len(dict(found)) < len(found):
        raise CalotError(f"{type(model).__name__} holds {len(found)} encoder layers; expected those of one V-JEPA 2")
    used = found[0][1].attention.config._attn_implementation
    if used != IMPLEMENTATION:
        raise CalotError(
            f'attn_implementation is {used!r}, which has no seam; call set_attn_implementation("{IMPLEMENTATION}") '
            "on the VJEPA2Model"
        )
    return dict(found)


def _chosen_layers(model: nn.Module, layers: Sequence[int]) -> list[tuple[int, VJEPA2Layer]]:
    """Each number as given, with its layer; negative numbers count from the end."""
    blocks = _encoder_layers(model)
    count = len(blocks)
    if outside := [i for i in layers if not -count <= i < count]:
        raise CalotError(f"layers={tuple(layers)}: the encoder has no layer {outside[0]}; give {-count} to {count - 1}")
    return [(i, blocks[i % count]) for i in layers]
