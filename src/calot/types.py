"""What travels along the pipeline: `Batch -> Tokens -> Outputs`, and the letters of their shapes.

Letters: `b` clip, `t` frame, `c h w` image, `n` token, `d` width, `k` criterion (order of `calot.criteria.CRITERIA`),
`s` mask class, `m` mask layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from operator import itemgetter
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from calot.criteria import IGNORED as IGNORED

#: Side of a mask, in mask pixels per token: the segmentation decoder's output.
MASK_PIXELS = 4

#: The head whose scores are the criteria's logits.
CRITERIA_HEAD = "head"


def is_anatomy(values: UInt8[Tensor, "*any"]) -> Bool[Tensor, "*any"]:
    """Mask pixels of classes 1 to 4."""
    return (values > 0) & (values != IGNORED)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision widened; losses and softmaxes are computed in float32, or in float64 where a test asks for it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@dataclass(frozen=True)
class Masks:
    """True masks of clips, at `MASK_PIXELS` pixels per token: one layer per mask in the clip's window, the one nearest
    to the labelled frame first; mixed clips have the layers of both.

    `values` are training classes (0 background, 1 cystic plate, 2 triangle, 3 artery, 4 duct, 255 ignored); `weight`
    is a layer's share in the loss, 0 where it holds no mask (all its pixels are then 255); `place` says which of
    the clip's frames a layer belongs to (the labelled one's where there is none). `complete` are the clips that have a
    mask; of mixed clips, those of which both have.
    """

    values: UInt8[Tensor, "b m h w"]
    weight: Float[Tensor, "b m"]
    place: Int[Tensor, "b m"]
    complete: Bool[Tensor, " b"]


@dataclass(frozen=True, kw_only=True)
class QueryKey:
    """All that determines an attention map: softmax over keys of `scaling * query . key + bias + between`.

    Where the tokens of a clip attend in several separate `parts` (frames, windows), each part is a row of `b`, a clip's
    parts together. `order` holds the place in the clip of each token of its parts, where it is not the same order. The
    first `extra` tokens of each part have no position. `between` is a score of each pair of tokens (a position bias,
    walls in a window): parts that have one are small.
    """

    query: Float[Tensor, "b heads n d"]
    key: Float[Tensor, "b heads n d"]
    scaling: float
    bias: Float[Tensor, "b 1 1 n"] | None = None
    between: Float[Tensor, "b _ n n"] | None = None
    parts: int = 1
    extra: int = 0
    order: Int[Tensor, " _"] | None = None

    def of(self, clips: Int[Tensor, " m"]) -> QueryKey:
        """The maps of some clips."""
        return self.by_clip(itemgetter(clips))

    def by_clip(self, change: Callable[[Tensor], Tensor]) -> QueryKey:
        """The same with every tensor changed, whose first axis is clips and the second a clip's parts."""

        def rows(x: Tensor) -> Tensor:
            return change(x.reshape(-1, self.parts, *x.shape[1:])).flatten(0, 1)

        bias = None if self.bias is None else rows(self.bias)
        between = None if self.between is None else rows(self.between)
        return replace(self, query=rows(self.query), key=rows(self.key), bias=bias, between=between)


@dataclass(frozen=True)
class Tokens:
    """What encoding gives: the backbone's output, and where each token sits: `n = grid[0] * grid[1] * grid[2]` (time,
    height, width).

    Where `keep` is given, pooling reads its tokens alone; each clip keeps at least one. `spared` are the tokens that a
    mask inside the encoder left as they were. `attention` holds the queries and keys of the layers asked for, by
    number, `levels` the outputs of others, before the final norm; a cache need not have them. `beside` is a vector of
    each clip that joins its pooled one. Where `entering` is given, they are not the output yet, but what enters that
    layer (from 0; the depth: the final norm).
    """

    values: Float[Tensor, "b n d"]
    grid: tuple[int, int, int]
    keep: Bool[Tensor, "b n"] | None = None
    spared: Bool[Tensor, "b n"] | None = None
    attention: dict[int, QueryKey] | None = None
    levels: dict[int, Float[Tensor, "b n d"]] | None = None
    beside: Float[Tensor, "b _"] | None = None
    entering: int | None = None


@dataclass(frozen=True)
class Hidden:
    """Of each clip, the tokens that an encoder is shown (`context`) and those to be predicted from them (`targets`):
    their numbers in the order of the grid."""

    context: Int[Tensor, "b _"]
    targets: Int[Tensor, "b _"]


@dataclass(frozen=True)
class Predicted:
    """What a backbone predicts for the targets of each `Hidden`, by its name, in the precision it was computed in."""

    values: dict[str, Float[Tensor, "b _ d"]]


@dataclass(frozen=True)
class Batch:
    """Clips with their labels.

    `video` is uint8 as stored (a backbone takes floats for clips that are normalised already); it has no frames where
    `tokens` stand in its place (see `with_tokens`). `views` are further videos of the same clips, by name, for a model
    that reads several. Where there are `hidden` tokens, by the name of what hides them, they are predicted and nothing
    is classified. `labels` is the training target under the label rule (the majority of raters outside training),
    `soft` the rater mean of the labelled frame; both have no columns where clips have no labels. `index` is each clip's
    place in its `ClipTable`, so that an error or a receipt can name it. `masks` are there where they were asked for.
    """

    video: Shaped[Tensor, "b t c h w"]
    labels: Float[Tensor, "b k"]
    soft: Float[Tensor, "b k"]
    index: Int[Tensor, " b"]
    masks: Masks | None = None
    tokens: Tokens | None = None
    views: dict[str, Shaped[Tensor, "b ..."]] = field(default_factory=dict)
    hidden: dict[str, Hidden] = field(default_factory=dict)

    @classmethod
    def unlabelled(cls, video: Shaped[Tensor, "b t c h w"], *, masks: Masks | None = None) -> Batch:
        """Clips without labels."""
        none = torch.zeros(len(video), 0, device=video.device)
        return cls(video=video, labels=none, soft=none, index=torch.arange(len(video)), masks=masks)

    def with_tokens(self, tokens: Tokens) -> Batch:
        """The same clips as tokens, without their frames."""
        return replace(self, video=self.video[:, :0], tokens=tokens)

    def __len__(self) -> int:
        return self.index.shape[0]

    def split(self, size: int) -> list[Batch]:
        """Cut into consecutive parts of at most `size` clips."""
        parts = [slice(i, i + size) for i in range(0, len(self), size)]
        return [_mapped(self, itemgetter(part)) for part in parts]

    def of(self, clips: Int[Tensor, " m"]) -> Batch:
        """Some of its clips."""
        chosen: Batch = _mapped(self, lambda x: x[clips])
        return chosen

    def to(self, device: torch.device) -> Batch:
        moved: Batch = _mapped(self, lambda x: x.to(device, non_blocking=True))
        return moved

    def used_by(self, stream: torch.cuda.Stream) -> None:
        """Keep its memory, which another stream filled, until this one has used it."""

        def noted(x: Tensor) -> Tensor:
            x.record_stream(stream)
            return x

        _mapped(self, noted)

    def pin_memory(self) -> Batch:
        pinned: Batch = _mapped(self, lambda x: x.pin_memory())
        return pinned


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same with every tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, QueryKey):
        return value.by_clip(change)
    if isinstance(value, dict):
        return {k: _mapped(v, change) for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _mapped(getattr(value, f.name), change) for f in fields(value)})
    return value


@dataclass(frozen=True)
class Outputs:
    """What a classifier gives for a batch: each head's raw scores by the head's name, never squashed.

    A head that had nothing to read in this batch (the segmentation decoder where no mask was asked for) has none.
    `kept` are the tokens that hard masking spared.
    """

    scores: dict[str, Float[Tensor, "b ..."]]
    tokens: Tokens
    kept: Bool[Tensor, "b n"] | None = None

    @property
    def logits(self) -> Float[Tensor, "b k"]:
        """The criteria's raw logits."""
        return self.scores[CRITERIA_HEAD]

    @property
    def attention(self) -> dict[int, QueryKey] | None:
        """The queries and keys of the layers asked for, by number."""
        return self.tokens.attention
