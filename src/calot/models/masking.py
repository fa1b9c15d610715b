"""Hard masking: the anatomy of a mask decides which tokens count."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from calot.config.fields import LayerNumbers, Range, Since, layers_at_depth
from calot.models.attention import biased
from calot.models.dropout import Regularised
from calot.types import MASK_PIXELS, Tokens, is_anatomy

#: What makes a patch one of anatomy.
MaskedPatches = Literal["any pixel", "nearest pixel"]


@dataclass(frozen=True, kw_only=True)
class Masking(Regularised):
    """What a kept token is spared from. In training the true mask decides, and the decoder's own where a clip has none;
    outside training the decoder's alone. The segmentation decoder itself always sees every token.

    `in_encoder` says that the mask is needed before the tokens exist: a first pass without it then finds it.
    """

    in_encoder: ClassVar[bool] = False

    patches: Annotated[MaskedPatches, Since("0.2.0", before="any pixel")] = "any pixel"

    def pooled(self, tokens: Tokens, keep: Bool[Tensor, "b n"]) -> Tokens:
        """The tokens as pooling sees them."""
        return tokens

    def inside(self, backbone: nn.Module, keep: Bool[Tensor, "b n"]) -> AbstractContextManager[None]:
        """What applies while the encoder runs."""
        return contextlib.nullcontext()

    def at_depth(self, *, layers: int, of: int) -> Masking:
        """The same for an encoder of `layers` layers where this one was written for `of`."""
        return self


@dataclass(frozen=True, kw_only=True)
class TokenMasking(Masking):
    """Pooling attends to kept tokens alone."""

    def pooled(self, tokens: Tokens, keep: Bool[Tensor, "b n"]) -> Tokens:
        return replace(tokens, keep=keep)


@dataclass(frozen=True, kw_only=True)
class TokenZeroing(Masking):
    """The documented way: the other tokens are multiplied by zero, and pooling still attends to them."""

    def pooled(self, tokens: Tokens, keep: Bool[Tensor, "b n"]) -> Tokens:
        kept = keep[..., None].to(tokens.values.dtype)
        levels = None if tokens.levels is None else {n: x * kept for n, x in tokens.levels.items()}
        return replace(tokens, values=tokens.values * kept, levels=levels)


@dataclass(frozen=True, kw_only=True)
class AttentionBias(Masking):
    """Inside the encoder, every score towards any other token loses `strength` (nats: odds fall by e^strength).

    `layers` None is all of them; a negative number counts from the last.
    """

    in_encoder: ClassVar[bool] = True

    strength: Annotated[float, Range(ge=0, le=10_000)] = 4.0
    layers: LayerNumbers | None = None

    def inside(self, backbone: nn.Module, keep: Bool[Tensor, "b n"]) -> AbstractContextManager[None]:
        bias = (keep.float() - 1.0) * self.strength
        return biased(backbone, bias=bias[:, None, None], layers=self.layers)

    def at_depth(self, *, layers: int, of: int) -> AttentionBias:
        if self.layers is None:
            return self
        return replace(self, layers=tuple(sorted(set(layers_at_depth(self.layers, layers=layers, of=of)))))


def anatomy_tokens(values: UInt8[Tensor, "b m h w"], *, by: MaskedPatches = "any pixel") -> Bool[Tensor, "b p"]:
    """Places of the token grid (row by row) that are of classes 1 to 4 in any layer of a mask.

    A place is so where any of its pixels is, which widens the anatomy by up to a patch, or where the pixel nearest to
    its middle is (the study's resizing, which may lose a thin duct).
    """
    anatomy = is_anatomy(values).any(dim=1, keepdim=True)
    if by == "nearest pixel":
        middle = slice(MASK_PIXELS // 2, None, MASK_PIXELS)
        return anatomy[..., middle, middle].flatten(1)
    return F.max_pool2d(anatomy.float(), MASK_PIXELS).flatten(1) > 0


def over_time(places: Bool[Tensor, "b p"], *, bins: int) -> Bool[Tensor, "b n"]:
    """The same places in every temporal bin; a clip without any keeps all its tokens."""
    some = places | ~places.any(dim=1, keepdim=True)
    return some.repeat(1, bins)


def predicted_classes(scores: Float[Tensor, "b m s h w"]) -> UInt8[Tensor, "b m h w"]:
    """The most likely class of each pixel."""
    return scores.argmax(dim=2).to(torch.uint8)
