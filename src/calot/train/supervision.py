"""Terms that train where an encoder attends, from its real queries and keys: one number a clip, with gradient.

`target` is 1 on the positions of anatomy and 0 elsewhere, on the height x width grid; soft weights do as well. Every
position of it holds for all temporal bins. A clip without anatomy has no target: leave it out before, by its coverage.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from calot.models.attention_statistics import attention_mass, normalised_entropy, received_attention
from calot.types import QueryKey


def received_by_position(qk: QueryKey, *, grid: tuple[int, int, int]) -> Float[Tensor, "b p"]:
    """Attention received by each position, averaged over heads and queries, summed over time; sums to 1."""
    received = received_attention(qk)
    received = received.reshape(received.shape[0], grid[0], grid[1] * grid[2]).sum(dim=1)
    return received / received.sum(dim=1, keepdim=True)


def attention_kl(qk: QueryKey, target: Float[Tensor, "b p"], *, grid: tuple[int, int, int]) -> Float[Tensor, " b"]:
    """KL(target || received), in nats, with the target uniform over anatomy: sum_p t_p (log t_p - log r_p)."""
    received = received_by_position(qk, grid=grid)
    wanted = _distribution(target.to(received))
    received = received.clamp_min(torch.finfo(received.dtype).tiny)  # an underflow costs 87 nats, not infinity
    return (torch.xlogy(wanted, wanted) - wanted * received.log()).sum(dim=1)


def attention_mse(qk: QueryKey, target: Float[Tensor, "b p"], *, grid: tuple[int, int, int]) -> Float[Tensor, " b"]:
    """Mean over positions of (t_p - r_p)^2.

    Small by nature: with anatomy on 20 of 256 positions and nearly uniform attention it is 1.8e-4, and its gradient
    into queries and keys 33,000 times smaller than that of `attention_kl`: its weight in a loss must make up for it.
    """
    return attention_focal_mse(qk, target, grid=grid, gamma=0.0)


def attention_focal_mse(
    qk: QueryKey, target: Float[Tensor, "b p"], *, grid: tuple[int, int, int], gamma: float = 2.0
) -> Float[Tensor, " b"]:
    """Mean over positions of w_p d_p^2, with d = t - r and w_p = (|d_p| / max |d|)^gamma.

    The weight is relative to the clip's largest difference and takes no gradient: gamma chooses positions, not the
    term's size; gamma=0 is `attention_mse`.
    """
    received = received_by_position(qk, grid=grid)
    difference = _distribution(target.to(received)) - received
    size = difference.detach().abs()
    largest = size.amax(dim=1, keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)
    return ((size / largest).pow(gamma) * difference.square()).mean(dim=1)


def entropy_penalty(qk: QueryKey, *, threshold: float = 0.7) -> Float[Tensor, " b"]:
    """Mean over heads and queries of how far the normalised entropy of each lies above `threshold`."""
    return F.relu(normalised_entropy(qk) - threshold).mean(dim=(1, 2))


def log_mass(qk: QueryKey, target: Float[Tensor, "b p"], *, grid: tuple[int, int, int]) -> Float[Tensor, " b"]:
    """-log of the share of attention on anatomy, averaged over heads and queries: 0 where all of it is there."""
    _require_anatomy(target)
    mass = attention_mass(qk, target.repeat(1, grid[0])).mean(dim=(1, 2))
    return -mass.clamp_min(torch.finfo(mass.dtype).tiny).log()


def _distribution(target: Tensor) -> Tensor:
    _require_anatomy(target)
    return target / target.sum(dim=1, keepdim=True)


def _require_anatomy(target: Tensor) -> None:
    if empty := (target.sum(dim=1) <= 0).nonzero().flatten().tolist():
        raise ValueError(f"clips {empty} of the batch have no anatomy to attend to; leave them out by their coverage")
