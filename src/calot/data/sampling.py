"""Samplers: the order in which an epoch draws its training clips. Validation and test keep their distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from calot.config.component import Component
from calot.config.fields import Range
from calot.errors import CalotError


class Sampler(Component, ABC):
    """`expected` is each clip's probability at one draw, so that `expected(labels) @ labels` is the requested dose."""

    @abstractmethod
    def order(self, labels: NDArray[np.float32], *, rng: Generator) -> NDArray[np.int64]:
        """Which clips an epoch draws, in order."""

    @abstractmethod
    def expected(self, labels: NDArray[np.float32]) -> NDArray[np.float64]:
        """Each clip's probability at one draw."""


@dataclass(frozen=True)
class Uniform(Sampler):
    """Every clip once, shuffled."""

    def order(self, labels: NDArray[np.float32], *, rng: Generator) -> NDArray[np.int64]:
        return rng.permutation(len(labels)).astype(np.int64)

    def expected(self, labels: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.full(len(labels), 1 / len(labels))


@dataclass(frozen=True)
class Balanced(Sampler):
    """Weight of a clip = mean over criteria of n / (2 x count of its label value), drawn with replacement."""

    def order(self, labels: NDArray[np.float32], *, rng: Generator) -> NDArray[np.int64]:
        return _draw(self.expected(labels), rng=rng)

    def expected(self, labels: NDArray[np.float32]) -> NDArray[np.float64]:
        positive = labels >= 0.5
        count = np.where(positive, positive.sum(axis=0), (~positive).sum(axis=0))
        weight = (len(labels) / (2 * count)).mean(axis=1)
        return np.asarray(weight / weight.sum())


@dataclass(frozen=True)
class AnyPositive(Sampler):
    """A `share` of the draws comes from clips with at least one criterion positive, the rest from the others."""

    share: Annotated[float, Range(gt=0, lt=1)] = 0.5

    def order(self, labels: NDArray[np.float32], *, rng: Generator) -> NDArray[np.int64]:
        return _draw(self.expected(labels), rng=rng)

    def expected(self, labels: NDArray[np.float32]) -> NDArray[np.float64]:
        positive = (labels >= 0.5).any(axis=1)
        if positive.all() or not positive.any():
            raise CalotError(
                f"AnyPositive.share={self.share} cannot be met: {positive.sum()} of {len(labels)} clips have a "
                f"positive criterion. Use Uniform()."
            )
        weight = np.where(positive, self.share / positive.sum(), (1 - self.share) / (~positive).sum())
        return np.asarray(weight)


@dataclass(frozen=True)
class RareCombination(Sampler):
    """Each of the combinations of criteria that occur is drawn equally often."""

    def order(self, labels: NDArray[np.float32], *, rng: Generator) -> NDArray[np.int64]:
        return _draw(self.expected(labels), rng=rng)

    def expected(self, labels: NDArray[np.float32]) -> NDArray[np.float64]:
        code = (labels >= 0.5) @ (1 << np.arange(labels.shape[1]))
        _, combination, count = np.unique(code, return_inverse=True, return_counts=True)
        return np.asarray(1 / (len(count) * count[combination]))


def _draw(probability: NDArray[np.float64], *, rng: Generator) -> NDArray[np.int64]:
    return rng.choice(len(probability), size=len(probability), p=probability).astype(np.int64)
