"""Whether an encoder that learns from its own predictions still tells tokens apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from calot.provenance.pretraining_facts import LEAST_RANK, LEAST_SPREAD


@dataclass(frozen=True)
class Monitors:
    """What an epoch's features of validation show.

    `std`: standard deviation over all tokens of all clips, mean over features. `spread`: mean over features of the
    deviation over the root mean square, so that a few large constant features do not decide. `rank`: effective rank,
    exp of the entropy of normalised singular values (Roy & Vetterli 2007). `cosine`: of the encoder's and the teacher's
    feature of a token, mean over tokens.
    """

    std: float
    spread: float
    rank: float
    cosine: float

    @property
    def collapse(self) -> str | None:
        """What collapsed, if anything."""
        if self.spread < LEAST_SPREAD:
            return f"every token has nearly the same feature (spread {self.spread:.3f}, below {LEAST_SPREAD})"
        if self.rank < LEAST_RANK:
            return f"features span hardly one direction (effective rank {self.rank:.2f}, below {LEAST_RANK})"
        return None

    def columns(self) -> dict[str, float | None]:
        """The same for metrics.csv; `collapsed` is 1 where something is."""
        return {
            "feature_std": self.std,
            "feature_spread": self.spread,
            "effective_rank": self.rank,
            "teacher_cosine": self.cosine,
            "collapsed": float(self.collapse is not None),
        }


class FeatureMeter:
    """Sums over tokens from which the monitors follow, in float64: any cut of the clips gives the same."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | float = 0.0
        self.products: Tensor | float = 0.0
        self.cosines = 0.0

    def add(self, own: Float[Tensor, "b n d"], teachers: Float[Tensor, "b n d"]) -> None:
        rows, theirs = own.flatten(0, 1).double().cpu(), teachers.flatten(0, 1).double().cpu()
        self.count += len(rows)
        self.total = self.total + rows.sum(0)
        self.products = self.products + rows.T @ rows
        self.cosines += float(F.cosine_similarity(rows, theirs, dim=-1).sum())

    def join(self, other: FeatureMeter) -> None:
        """Add the tokens of another."""
        self.count += other.count
        self.total = self.total + other.total
        self.products = self.products + other.products
        self.cosines += other.cosines

    def monitors(self) -> Monitors:
        """Of all tokens so far."""
        products, mean = torch.as_tensor(self.products) / self.count, torch.as_tensor(self.total) / self.count
        power = products.diagonal()
        deviations = (power - mean.square()).clamp_min(0).sqrt()
        return Monitors(
            std=float(deviations.mean()),
            spread=float((deviations / power.sqrt()).nan_to_num(0.0).mean()),
            rank=effective_rank(torch.linalg.eigvalsh(products).clamp_min(0).sqrt()),
            cosine=self.cosines / self.count,
        )


def effective_rank(singular: Float[Tensor, " d"]) -> float:
    """exp of the entropy of singular values over their sum (Roy & Vetterli 2007, eq. 4); 0 where all are 0."""
    total = singular.sum()
    if total == 0:
        return 0.0
    shares = singular / total
    return math.exp(float(-torch.special.xlogy(shares, shares).sum()))
