"""The one seam into a backbone's attention: read its real queries and keys, add a bias to its scores.

The implementation "calot" is transformers' "sdpa", bit for bit, on any layer without a seam. A seam is an attribute of
one attention module, which `tapped` and `biased` add and remove. It sits where the kernel is called,
after LoRA and the rotary embedding: what it reads is what the model computes, in every form of adaptation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from calot.errors import CalotError
from calot.models.backbones.protocol import Backbone, BackboneSpec
from calot.models.windows import WindowPartition, Windows
from calot.types import QueryKey

#: The name to give as `attn_implementation`.
IMPLEMENTATION = "calot"


@dataclass(frozen=True, kw_only=True)
class AttentionSeam:
    """What one attention module does besides its own work: hand out its queries and keys, add a bias to its keys.

    `spec` knows in how many parts a clip's tokens attend separately, and which tokens of a part have no position.
    """

    spec: BackboneSpec
    taps: tuple[Callable[[QueryKey], None], ...] = ()
    bias: Tensor | None = None

    def of_parts(self, dtype: torch.dtype, *, clips: int, windows: WindowPartition | None) -> Tensor | None:
        """The bias as the kernel takes it: a row for each part of each clip, extra tokens unbiased."""
        if self.bias is not None and windows is not None:
            return windows.rows_of(self.bias.expand(clips, 1, 1, -1)).to(dtype)
        if self.bias is None or (self.spec.attention_parts == 1 and not self.spec.extra_tokens):
            return None if self.bias is None else self.bias.to(dtype)
        rows = self.bias.expand(clips, 1, 1, -1).reshape(clips * self.spec.attention_parts, 1, 1, -1)
        return F.pad(rows, (self.spec.extra_tokens, 0)).to(dtype)


@dataclass
class AttentionReading:
    """The latest pass of one attention layer: what its kernel got, and what it handed to its output projection."""

    query_key: QueryKey | None = None
    values: Tensor | None = None
    mixed: Tensor | None = None

    def rebuilt(self) -> Tensor:
        """softmax(q k) v from what was tapped, in the shape of `mixed`."""
        qk, values = self.query_key, self.values
        assert qk is not None
        assert values is not None
        scores = qk.scaling * qk.query @ qk.key.mT + sum(x for x in (qk.bias, qk.between) if x is not None)
        by_head = values.reshape(*values.shape[:2], qk.query.shape[1], -1).transpose(1, 2)
        if qk.order is None:
            mixed: Tensor = (scores.softmax(-1) @ by_head).transpose(1, 2).flatten(2)
            return mixed
        b, heads, n, width = by_head.shape
        parts = by_head[:, :, qk.order].reshape(b, heads, qk.parts, -1, width).transpose(1, 2).flatten(0, 1)
        within = (scores.softmax(-1) @ parts).reshape(b, qk.parts, heads, -1, width)
        return within.permute(0, 1, 3, 2, 4).reshape(b, n, heads * width)[:, qk.order.argsort()]


@contextlib.contextmanager
def tapped(model: nn.Module, *, layers: Sequence[int] = (-1,)) -> Iterator[dict[int, QueryKey]]:
    """Collect the queries and keys of these layers (-1 is the last), with their gradient, under the numbers given.

    `model` may be anything around one `Backbone`, or itself one. The dict holds the latest forward pass. A frozen
    backbone runs without a graph, so there the tensors have no gradient.
    """
    seen: dict[int, QueryKey] = {}
    if not layers:  # a backbone that is not tapped needs no seam
        yield seen
        return
    backbone = backbone_in(model)
    with contextlib.ExitStack() as stack:
        for number in _chosen_layers(backbone, layers):
            stack.enter_context(_with_seam(backbone, number, tap=partial(seen.__setitem__, number)))
        yield seen


@contextlib.contextmanager
def watched(model: nn.Module, *, watch: Callable[[int, QueryKey], None]) -> Iterator[None]:
    """Call `watch` with the number, the queries and the keys of every layer as it computes, and keep none of them; also
    in a family without a seam whose attention can be read."""
    backbone = _only_backbone(model)
    with contextlib.ExitStack() as stack:
        for number in range(len(backbone.layers)):
            read = backbone.watching(number, tap=partial(watch, number))
            if read is None:
                backbone_in(model)  # says which families have no seam
                read = _with_seam(backbone, number, tap=partial(watch, number))
            stack.enter_context(read)
        yield


@contextlib.contextmanager
def before_rotation(model: nn.Module) -> Iterator[Callable[[int, QueryKey], QueryKey]]:
    """What gives, inside `watched`, the queries and keys of a layer before its rotary embedding: the outputs of its
    linears, adapters included."""
    backbone = backbone_in(model)
    latest: dict[str, Tensor] = {}
    handles = [
        backbone.linear(number, role).register_forward_hook(
            lambda _m, _i, output, role=role: latest.__setitem__(role, output)
        )
        for number in range(len(backbone.layers))
        for role in ("q", "k")
    ]

    def plain(number: int, qk: QueryKey) -> QueryKey:
        """Of the layer that is computing: its linears were the latest to run."""
        return replace(qk, query=_as_heads(latest["q"], like=qk), key=_as_heads(latest["k"], like=qk))

    try:
        yield plain
    finally:
        for handle in handles:
            handle.remove()


def _as_heads(output: Float[Tensor, "b n d"], *, like: QueryKey) -> Float[Tensor, "_ heads _ e"]:
    """A linear's output by head, and by part where the clip's tokens were parted after it."""
    heads, width = like.query.shape[1], like.query.shape[3]
    by_head = output.reshape(*output.shape[:2], heads, width).transpose(1, 2)
    if like.order is None:
        return by_head
    parts = by_head[:, :, like.order].reshape(len(output), heads, like.parts, -1, width)
    return parts.transpose(1, 2).flatten(0, 1)


@contextlib.contextmanager
def biased(model: nn.Module, *, bias: Float[Tensor, "b 1 1 n"], layers: Sequence[int] | None = None) -> Iterator[None]:
    """Add `bias`, in logits, to the scores of each key, in these layers or all. Biases of nested calls add up.

    Use a large negative number such as -1e4 to hide a token: an infinite one gives NaN where every key is hidden.
    """
    if not torch.isfinite(bias).all():
        raise ValueError("attention bias holds infinite or NaN values; use a finite one, such as -1e4 to hide a token")
    backbone = backbone_in(model)
    with contextlib.ExitStack() as stack:
        for number in _chosen_layers(backbone, range(len(backbone.layers)) if layers is None else layers):
            stack.enter_context(_with_seam(backbone, number, bias=bias))
        yield


@contextlib.contextmanager
def reading(model: nn.Module, *, layer: int) -> Iterator[AttentionReading]:
    """Read everything that one layer's attention does: its queries, keys, values and output."""
    backbone, found = backbone_in(model), AttentionReading()
    handles = [
        backbone.linear(layer, "v").register_forward_hook(lambda _m, _i, output: setattr(found, "values", output)),
        backbone.linear(layer, "proj").register_forward_pre_hook(lambda _m, args: setattr(found, "mixed", args[0])),
    ]
    try:
        with _with_seam(backbone, layer, tap=lambda qk: setattr(found, "query_key", qk)):
            yield found
    finally:
        for handle in handles:
            handle.remove()


def backbone_in(model: nn.Module) -> Backbone:
    """The one backbone inside a model; CalotError where there is none, more than one, or one without a seam."""
    found = _only_backbone(model)
    config: Any = getattr(found.attention(0), "config", None)
    named = getattr(config, "_attn_implementation", type(found.attention(0)).__name__)
    if named != IMPLEMENTATION:
        raise CalotError(
            f"attn_implementation is {named!r}, which has no seam; call "
            f'set_attn_implementation("{IMPLEMENTATION}") on the network'
        )
    return found


def _only_backbone(model: nn.Module) -> Backbone:
    found = [module for module in model.modules() if isinstance(module, Backbone)]
    if len(found) != 1:
        raise CalotError(f"{type(model).__name__} holds {len(found)} backbones; expected one")
    return found[0]


def _chosen_layers(backbone: Backbone, layers: Sequence[int]) -> Sequence[int]:
    """The numbers as given, where the backbone has such layers; negative ones count from the end."""
    count = len(backbone.layers)
    if outside := [i for i in layers if not -count <= i < count]:
        raise CalotError(f"layers={tuple(layers)}: the encoder has no layer {outside[0]}; give {-count} to {count - 1}")
    return layers


def attend(
    module: nn.Module,
    query: Float[Tensor, "b heads n d"],
    key: Float[Tensor, "b heads n d"],
    value: Float[Tensor, "b heads n d"],
    attention_mask: Float[Tensor, "_ _ s s"] | None,
    **options: Any,
) -> tuple[Float[Tensor, "b n heads d"], None]:
    """transformers' "sdpa" with this module's windows and its seam, where it has them.

    `attention_mask` is a score of each pair, within each window where there are windows.
    """
    windows: Windows | None = module._modules.get("windows")  # type: ignore[assignment]
    call = _Call(module, query, key, value, attention_mask, options)
    if windows is None:
        return call.over(None, tapped=True), None
    globally = windows.off or windows.gate is not None
    return windows.mixed(lambda part: call.over(part, tapped=(part is None) is globally)), None


AttentionInterface.register(IMPLEMENTATION, attend)


@dataclass(frozen=True)
class _Call:
    """One call of an attention kernel, over windows or over all tokens."""

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    between: Tensor | None
    options: dict[str, Any]

    def over(self, windows: WindowPartition | None, *, tapped: bool) -> Tensor:
        query, key, value, between = self.query, self.key, self.value, self.between
        clips = query.shape[0]  # len() would fix the number of clips in an exported program
        if windows is not None:
            query, key, value = (windows.parted(x) for x in (query, key, value))
            between = windows.between(between, clips=clips, device=query.device)
        seam, bias = _seam_of(self.module), None
        if seam is not None:
            bias = seam.of_parts(query.dtype, clips=clips // seam.spec.attention_parts, windows=windows)
            made = partial(self._query_key, query, key, between=between, bias=bias, spec=seam.spec, windows=windows)
            for tap in seam.taps if tapped else ():
                tap(made())
        scores = [x.to(query.dtype) for x in (between, bias) if x is not None]
        mask = sum(scores[1:], scores[0]) if scores else None
        mixed: Tensor = AttentionInterface()["sdpa"](self.module, query, key, value, mask, **self.options)[0]
        return mixed

    def _query_key(
        self,
        query: Tensor,
        key: Tensor,
        *,
        between: Tensor | None,
        bias: Tensor | None,
        spec: BackboneSpec,
        windows: WindowPartition | None,
    ) -> QueryKey:
        scaling = self.options.get("scaling")
        rows, tokens = query.shape[0], key.shape[2]
        return QueryKey(
            query=query,
            key=key,
            scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
            bias=None if bias is None else bias.expand(rows, 1, 1, tokens),
            between=None if between is None else between.expand(rows, -1, -1, -1),
            parts=spec.attention_parts if windows is None else windows.count,
            extra=spec.extra_tokens,
            order=None if windows is None else windows.order(device=query.device),
        )


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
    backbone: Backbone, layer: int, *, tap: Callable[[QueryKey], None] | None = None, bias: Tensor | None = None
) -> Iterator[None]:
    """Add to the seam of this layer's attention, also where the layer is computed again in the backward pass."""
    attention = backbone.attention(layer)
    seam = _seam_of(attention) or AttentionSeam(spec=backbone.spec)
    if tap is not None:
        seam = replace(seam, taps=(*seam.taps, tap))
    if bias is not None:
        seam = replace(seam, bias=bias if seam.bias is None else seam.bias + bias)
    with _holding(attention, seam), _carried_through_checkpointing(backbone.layers[layer], attention):
        yield


@contextlib.contextmanager
def _carried_through_checkpointing(block: nn.Module, attention: nn.Module) -> Iterator[None]:
    """Make a checkpointed layer's second computation see the seam of its first, wherever `backward` is called."""
    checkpoint = vars(block).get("_gradient_checkpointing_func")
    if checkpoint is None or isinstance(checkpoint, _CarryingCheckpoint):
        yield
        return
    vars(block)["_gradient_checkpointing_func"] = _CarryingCheckpoint(checkpoint, attention)
    try:
        yield
    finally:
        vars(block)["_gradient_checkpointing_func"] = checkpoint


@dataclass(frozen=True)
class _CarryingCheckpoint:
    """transformers' checkpoint function for one layer, with the seam in force at the time of the forward pass."""

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
            again = seam if runs == 1 or seam is None else replace(seam, taps=())  # a tap records a pass once
            with _holding(self.attention, again):
                return function(*inputs)

        grad_wanted = torch.is_grad_enabled()
        return self.checkpoint(with_seam, *args)
