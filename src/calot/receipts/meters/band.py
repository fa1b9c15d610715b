"""Readings and the bands that settings declare for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf, isfinite, sqrt
from typing import Any

SIGMAS = 5.0  # an honest mean falls outside about once in two million

#: Of a reading, summed up so that it can be kept in a checkpoint and go on: count, sum, least, greatest.
Tally = list[float]
Values = dict[str, list[float]]


@dataclass(frozen=True)
class DoseBand:
    """Where the mean of a reading belongs: within `slack` of `mean`, and `SIGMAS` standard errors of draws that each
    vary by `sd`. With `each`, the least and the greatest must lie in it too. One that is not `needed` may have no
    reading: it happens too seldom in a short run."""

    mean: float
    sd: float = 0.0
    slack: float = 0.0
    each: bool = False
    needed: bool = True

    @classmethod
    def between(cls, low: float, high: float) -> DoseBand:
        """Anywhere between two ends."""
        return cls((low + high) / 2, slack=(high - low) / 2)

    def optional(self) -> DoseBand:
        """The same for what may not have been seen."""
        return replace(self, needed=False)

    def around(self, count: float) -> tuple[float, float]:
        """Lowest and highest mean of `count` draws."""
        half = self.slack + SIGMAS * self.sd / sqrt(max(count, 1.0))
        return self.mean - half, self.mean + half

    def met(self, tally: Tally) -> bool:
        """Whether a reading lies in it; one without a value proves nothing against it."""
        count, total, least, greatest = tally
        low, high = self.around(count)
        inside = low - 1e-9 <= total / count <= high + 1e-9 if count else True
        return inside and (not self.each or not count or (low - 1e-9 <= least and greatest <= high + 1e-9))


def share(probability: float, *, slack: float = 0.0) -> DoseBand:
    """Of draws that happen with some probability."""
    return DoseBand(probability, sd=sqrt(probability * (1 - probability)), slack=slack)


def size_of_uniform(half: float, *, slack: float) -> DoseBand:
    """Of the absolute value of a draw uniform in +-`half`."""
    return DoseBand(half / 2, sd=half / sqrt(12), slack=slack)


def uniform(low: float, high: float, *, slack: float) -> DoseBand:
    """Of a draw uniform in `low` ... `high`."""
    return DoseBand((low + high) / 2, sd=(high - low) / sqrt(12), slack=slack)


def never(slack: float = 0.0) -> DoseBand:
    """Of what must not be at all."""
    return DoseBand(0.0, slack=slack, each=True)


def add(tallies: dict[str, Tally], name: str, values: Iterable[float]) -> None:
    """Count more values of a reading."""
    for value in values:
        if not isfinite(value):
            continue
        count, total, least, greatest = tallies.get(name, [0, 0.0, inf, -inf])
        tallies[name] = [count + 1, total + value, min(least, value), max(greatest, value)]


def merged(parts: Iterable[dict[str, Any]]) -> dict[str, Tally]:
    """Tallies of several epochs as one."""
    found: dict[str, Tally] = {}
    for part in parts:
        for name, (count, total, least, greatest) in part.items():
            old = found.get(name, [0, 0.0, inf, -inf])
            found[name] = [old[0] + count, old[1] + total, min(old[2], least), max(old[3], greatest)]
    return found
