"""Exact entropy, mass and received attention from queries and keys, without an n x n matrix per head in memory.

Everything is computed in float32 at least, outside autocast, and is differentiable once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from calot.models.windows import WALL
from calot.types import QueryKey

#: The plain parts hold this many scores at a time (16 MB in float32), or 16 rows of every head where that is more.
_SCORES = 2**22


def attention_entropy(qk: QueryKey) -> Float[Tensor, "b heads n"]:
    """Entropy of each query's attention in nats; exact to rounding, so a one-hot map may read -1e-6.

    With scores s and map p, H_i = logsumexp_j s_ij - sum_j p_ij s_ij, and the sum is scaling * q_i . SDPA(q, k, k)_i.
    dH = -sum_j s_ij dp_ij, because the terms in ds cancel: so the query of the dot product, the values and the
    kernel's logsumexp (which has no gradient of its own) are all detached, and the first gradient is exact.
    """
    plain = _plain(qk)
    if plain.between is not None:
        scores = _scores(plain.query, plain)
        return _by_clip(scores.logsumexp(-1) - (scores.softmax(-1) * scores).sum(-1), qk)
    with torch.autocast(plain.query.device.type, enabled=False):
        attended = _attend_keys(plain)
        dot = torch.einsum("bhnd,bhnd->bhn", plain.query.detach(), attended.output)  # without the product's copy
        return _by_clip(attended.logsumexp - plain.scaling * dot, qk)


def normalised_entropy(qk: QueryKey) -> Float[Tensor, "b heads n"]:
    """Entropy over its maximum, the log of how many keys a query sees: 1 is uniform attention, 0 a single token.

    A query that walls leave with one key has no choice, and reads 1.
    """
    if qk.between is None:
        return attention_entropy(qk) / math.log(qk.key.shape[2])
    seen = (qk.between.detach() > WALL / 2).sum(dim=-1).expand(*qk.query.shape[:3])  # a wall parts some of the keys
    most, entropy = _by_clip(seen.to(torch.float32), qk).log(), attention_entropy(qk)
    return torch.where(most > 0, entropy / most.clamp(min=1e-6), torch.ones_like(entropy))


def attention_mass(
    qk: QueryKey, mask: Float[Tensor, "b n"] | Float[Tensor, "b m n"]
) -> Float[Tensor, "b heads n"] | Float[Tensor, "b heads n m"]:
    """The share of each query's attention that falls on each of `m` token sets; weights of 0 to 1 also work."""
    if mask.ndim == 2:
        return attention_mass(qk, mask[:, None])[..., 0]
    plain = _plain(qk)
    heads, width = plain.query.shape[1], plain.query.shape[3]
    parts = []
    with torch.autocast(plain.query.device.type, enabled=False):
        whole = _by_part(mask.to(plain.query.dtype), qk)
        if plain.between is not None:
            return _by_clip(_scores(plain.query, plain).softmax(-1) @ whole.mT[:, None], qk)
        for sets in torch.split(whole, width, dim=1):  # values as wide as keys keep the fused kernel
            values = F.pad(sets.mT, (0, width - sets.shape[1]))[:, None].expand(-1, heads, -1, -1)
            parts.append(_attend(plain, values)[..., : sets.shape[1]])
    return _by_clip(torch.cat(parts, dim=-1), qk)


def received_attention(qk: QueryKey, *, chunk: int | None = None) -> Float[Tensor, "b n"]:
    """The attention each token receives, averaged over heads and queries: n numbers per clip that sum to 1, less what
    extra tokens receive.

    The value is summed over `chunk` queries at a time. Its gradient needs no map either: for an upstream gradient g,
    sum_j g_j received_j is the mean over heads and queries of the attention mass on g, whose gradient is fused.
    """
    plain = _plain(qk)
    with torch.autocast(plain.query.device.type, enabled=False):
        if plain.between is not None:
            received = _scores(plain.query, plain).softmax(-1)[:, :, qk.extra :].mean(dim=(1, 2))
        else:
            received = _Received.apply(  # type: ignore[no-untyped-call]
                plain.query, plain.key, plain.scaling, qk.extra, chunk
            )
    if qk.parts == 1 and not qk.extra:
        return received
    whole = received[:, qk.extra :].reshape(-1, qk.parts * (received.shape[1] - qk.extra)) / qk.parts
    return whole if qk.order is None else whole[:, qk.order.argsort()]


@dataclass(frozen=True)
class MapRows:
    """Some rows of every part's map, from that part's query `first` on, extra tokens not counted among queries.

    `shares` of a part's keys (its extra tokens first) sum to 1; `entropy` is theirs in nats, `seen` how many keys there
    are that no wall parts from the query.
    """

    first: int
    shares: Float[Tensor, "p heads q s"]
    entropy: Float[Tensor, "p heads q"]
    seen: Float[Tensor, "p 1 q"]


@torch.no_grad()
def map_rows(qk: QueryKey, *, chunk: int | None = None) -> Iterator[MapRows]:
    """The map itself, as many rows at a time as fit into a few megabytes: for what no sum over keys can tell."""
    plain = _plain(qk)
    keys = plain.key.shape[2]
    step = chunk or _rows_at_a_time(plain)
    for start in range(qk.extra, keys, step):
        rows = slice(start, min(start + step, keys))
        with torch.autocast(plain.query.device.type, enabled=False):
            scores = (plain.query[:, :, rows] * plain.scaling) @ plain.key.mT
            seen = scores.new_full((len(scores), 1, scores.shape[2]), keys)
            if plain.between is not None:
                scores += plain.between[:, :, rows]
                seen = (plain.between[:, :1, rows] > WALL / 2).sum(dim=-1).to(scores.dtype)
            logs = torch.log_softmax(scores, dim=-1)
            shares = logs.exp()
            entropy = torch.where(shares > 0, shares * logs, 0.0).sum(dim=-1).neg()
        yield MapRows(rows.start - qk.extra, shares, entropy, seen)


@torch.no_grad()
def dense_rows(qk: QueryKey, tokens: Int[Tensor, " q"]) -> Float[Tensor, "b heads q _"]:
    """The map's rows of some of the clip's tokens over all of its tokens, in the order of the grid, and in one more
    column what its extra tokens receive; 0 where a key is in another part."""
    plain, place = _plain(qk), places_of(qk)
    parts, size = place.shape
    spot = place.flatten().argsort()[tokens]
    part, slot = spot // size, spot % size + qk.extra
    query, key = (x.reshape(-1, parts, *x.shape[1:]) for x in (plain.query, plain.key))
    between = None if plain.between is None else plain.between.reshape(-1, parts, *plain.between.shape[1:])
    found = query.new_zeros(len(query), query.shape[2], len(tokens), parts * size + 1)
    with torch.autocast(query.device.type, enabled=False):
        for number in sorted(set(part.tolist())):
            mine = (part == number).nonzero().flatten()
            scores = plain.scaling * query[:, number][:, :, slot[mine]] @ key[:, number].mT
            if between is not None:
                scores = scores + between[:, number][:, :, slot[mine]]
            shares = scores.softmax(dim=-1)
            found[:, :, mine[:, None], place[number][None, :]] = shares[..., qk.extra :]
            found[:, :, mine, -1] = shares[..., : qk.extra].sum(dim=-1)
    return found


def places_of(qk: QueryKey) -> Int[Tensor, "p s"]:
    """The place in the clip's grid of every token of each part, extra tokens left out."""
    size = qk.key.shape[2] - qk.extra
    order = qk.order
    if order is None:
        order = torch.arange(qk.parts * size, device=qk.key.device)
    return order.reshape(qk.parts, size)


def _by_clip(found: Tensor, qk: QueryKey) -> Tensor:
    """One number (or several) for each query of each part, `b heads n ...`, as one row of queries per clip; those of
    extra tokens are left out."""
    if qk.parts == 1 and not qk.extra:
        return found
    placed = found[:, :, qk.extra :]
    whole = placed.reshape(-1, qk.parts, *placed.shape[1:]).transpose(1, 2).flatten(2, 3)
    return whole if qk.order is None else whole[:, :, qk.order.argsort()]


def _by_part(sets: Float[Tensor, "b m n"], qk: QueryKey) -> Tensor:
    """Token sets of clips as sets of each part's keys; an extra token is in none."""
    if qk.parts == 1 and not qk.extra:
        return sets
    placed = sets if qk.order is None else sets[..., qk.order]
    parted = placed.reshape(*sets.shape[:2], qk.parts, -1).transpose(1, 2).flatten(0, 1)
    return F.pad(parted, (qk.extra, 0))


class _Received(torch.autograd.Function):
    """What each key of float32 queries and keys without a bias receives, the first `extra` queries left out."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, scaling: float, extra: int, chunk: int | None) -> Tensor:
        ctx.save_for_backward(query, key)
        ctx.scaling, ctx.extra = scaling, extra
        plain = QueryKey(query=query, key=key, scaling=scaling)
        total = query.new_zeros(query.shape[0], key.shape[2])
        for rows in torch.split(query[:, :, extra:], chunk or _rows_at_a_time(plain), dim=2):
            total += torch.softmax(_scores(rows, plain), dim=-1).sum(dim=(1, 2))
        return total / (query.shape[1] * (query.shape[2] - extra))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        query, key = (x.detach().requires_grad_() for x in ctx.saved_tensors)
        with torch.enable_grad():
            mass = attention_mass(QueryKey(query=query, key=key, scaling=ctx.scaling), upstream)[:, :, ctx.extra :]
            into_query, into_key = torch.autograd.grad(mass.mean(dim=(1, 2)).sum(), (query, key))
        return into_query, into_key, None, None, None


@dataclass(frozen=True)
class _Attended:
    """SDPA(q, k, k) with gradient into the map alone, and the logsumexp of each query's scores, without gradient."""

    output: Tensor
    logsumexp: Tensor


def _plain(qk: QueryKey) -> QueryKey:
    """The same map in at least float32 and without a bias, which becomes one more coordinate of query and key; where
    pairs have scores of their own, it joins those."""
    query, key = (x if x.dtype == torch.float64 else x.float() for x in (qk.query, qk.key))
    if qk.between is not None:
        between = qk.between.to(key.dtype) + (0 if qk.bias is None else qk.bias.to(key.dtype))
        return QueryKey(query=query, key=key, scaling=qk.scaling, between=between)
    # What all keys share drops out of the softmax, but not out of rounding: logsumexp is of the scores' size.
    key = key - key.detach().mean(dim=2, keepdim=True)
    if qk.bias is not None:
        shift = (qk.bias - qk.bias.detach().amax(dim=-1, keepdim=True)).to(key.dtype) / qk.scaling
        b, heads, n, _ = key.shape
        query = F.pad(torch.cat([query, query.new_ones(b, heads, n, 1)], dim=-1), (0, 7))  # kernels want multiples of 8
        key = F.pad(torch.cat([key, shift.mT.expand(b, heads, n, 1)], dim=-1), (0, 7))
    return QueryKey(query=query, key=key, scaling=qk.scaling)


def _attend(plain: QueryKey, values: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(plain.query, plain.key, values, scale=plain.scaling)


def _attend_keys(plain: QueryKey) -> _Attended:
    """One fused call where the device's kernel returns its logsumexp; else SDPA and a chunked logsumexp."""
    query, key, values, scale = plain.query, plain.key, plain.key.detach(), plain.scaling
    device, aten = query.device.type, torch.ops.aten
    if device == "cpu" and hasattr(aten, "_scaled_dot_product_flash_attention_for_cpu"):
        output, lse = aten._scaled_dot_product_flash_attention_for_cpu(query, key, values, 0.0, False, scale=scale)
        return _Attended(output, lse.detach())
    if device == "cuda" and query.dtype == torch.float32 and query.shape[-1] % 8 == 0:
        output, lse = aten._scaled_dot_product_efficient_attention(
            query, key, values, None, True, 0.0, False, scale=scale
        )[:2]
        return _Attended(output, lse[..., : query.shape[2]].detach())  # padded to a multiple of 32
    return _Attended(_attend(plain, values), _logsumexp_in_chunks(plain))


@torch.no_grad()
def _logsumexp_in_chunks(plain: QueryKey, *, chunk: int | None = None) -> Tensor:
    """The logsumexp of each query's scores on any device, `chunk` queries at a time."""
    rows = torch.split(plain.query, chunk or _rows_at_a_time(plain), dim=2)
    return torch.cat([_scores(part, plain).logsumexp(dim=-1) for part in rows], dim=2)


def _scores(rows: Tensor, plain: QueryKey) -> Tensor:
    """The scores of some queries; of all of them, where pairs have scores of their own."""
    scores = (rows * plain.scaling) @ plain.key.mT
    return scores if plain.between is None else scores + plain.between


def _rows_at_a_time(plain: QueryKey) -> int:
    b, heads, n, _ = plain.key.shape
    return max(16, _SCORES // (b * heads * n))
