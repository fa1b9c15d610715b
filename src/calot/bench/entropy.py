"""The entropy of every query's attention from the fused kernel, against writing out the map of all pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from calot.bench.side_by_side import Aside, Contest, ExactnessCheck, Outcome, compete, one_torch_thread, seconds
from calot.bench.window import peak_megabytes
from calot.models.attention_statistics import normalised_entropy
from calot.types import QueryKey

TARGET = 3.0
#: Factors on the queries: from maps that are nearly uniform to nearly one token each.
SHARPNESS = (0.1, 1.0, 4.0, 20.0)


def bench_entropy(*, tokens: int = 2048, heads: int = 16, width: int = 64, repeats: int = 5) -> Outcome:
    """One clip's queries and keys in float32 on one thread; one plain attention call stands beside it."""
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, tokens, width, generator=draw) for _ in range(3))
    qk = QueryKey(query=query, key=key, scaling=width**-0.5)

    def plain() -> Tensor:
        return naive_entropy(query, key, scaling=qk.scaling)

    def ours() -> Tensor:
        return normalised_entropy(qk)

    def attention() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, scale=qk.scaling)

    def beside() -> tuple[Aside, ...]:
        attention()
        taken = min(seconds(attention) for _ in range(3))
        return (Aside(name="attention", what="one plain call of fused attention", seconds=taken),)

    with torch.no_grad(), one_torch_thread():
        return compete(
            Contest(
                bench="entropy",
                work=f"normalised entropy of {tokens} queries x {heads} heads of {width}",
                naive_way=f"softmax over all pairs, -sum p log p, {peak_megabytes(plain):.0f} MB",
                our_way=f"logsumexp - scale * q . SDPA(q, k, k), {peak_megabytes(ours):.0f} MB",
                target=TARGET,
                repeats=repeats,
                checks=lambda: _checks(query, key, scaling=qk.scaling),
                naive=plain,
                ours=ours,
                asides=beside,
                settings={"tokens": tokens, "heads": heads, "width": width},
            )
        )


def naive_entropy(query: Tensor, key: Tensor, *, scaling: float) -> Tensor:
    """Entropy of each query's map over log n, the map written out."""
    shares = (query @ key.mT * scaling).softmax(-1)
    entropy: Tensor = -torch.special.xlogy(shares, shares).sum(-1)
    return entropy / math.log(key.shape[2])


def _checks(query: Tensor, key: Tensor, *, scaling: float) -> tuple[ExactnessCheck, ...]:
    """Against float64 at several sharpnesses, on some of the heads; a mean of maps would read about 1 in each."""
    few = (query[:, :2], key[:, :2])
    found = []
    for factor in SHARPNESS:
        ours = normalised_entropy(QueryKey(query=factor * few[0], key=few[1], scaling=scaling))
        theirs = naive_entropy(factor * few[0].double(), few[1].double(), scaling=scaling)
        off = float((ours.double() - theirs).abs().max())
        what = f"normalised entropy at sharpness {factor:g}, mean {float(theirs.mean()):.3f}"
        found.append(ExactnessCheck(what=what, difference=off, tolerance=1e-5))
    return tuple(found)
