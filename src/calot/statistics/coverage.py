"""How often a 95 % interval contained the truth in simulation, read from the table that `calot.bench.coverage` writes.

What is printed beside an interval is the worst simulated world's coverage at the table's number of *positive videos*,
interpolated between the sizes simulated; beyond the largest the largest's is printed, never a better guess.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np

Quantity = Literal["ap", "map", "difference_ap", "difference_map", "treatment_ap", "treatment_map"]
NOMINAL = 0.05  # a permutation test whose measured false rate lies above it by more than its error is not shown


@dataclass(frozen=True, kw_only=True)
class MeasuredCoverage:
    """Share of simulated intervals that contained the truth in the worst world, with both ways of missing it separate.

    `low_miss`: the truth lay below the interval, `high_miss`: above it. `sets` are the simulated intervals behind the
    nearer node, `standard_error` is that of `coverage`.
    """

    quantity: str
    positive_videos: int
    coverage: float
    low_miss: float
    high_miss: float
    world: str
    sets: int
    standard_error: float

    def __str__(self) -> str:
        return (
            f"{self.coverage:.1%} (truth below {self.low_miss:.1%}, above {self.high_miss:.1%}; "
            f"worst of the simulated worlds: {self.world})"
        )


def measured_coverage(quantity: Quantity, *, positive_videos: int) -> MeasuredCoverage | None:
    """The shipped measurement at this number of positive videos; None below two, or before it was measured."""
    return interpolated(_shipped().get("coverage", {}).get(quantity, ()), quantity, positive_videos=positive_videos)


def interpolated(nodes: Sequence[Mapping[str, Any]], quantity: str, *, positive_videos: int) -> MeasuredCoverage | None:
    """Linear in the logarithm of positive videos between two nodes, flat outside them."""
    if not nodes or positive_videos < 2:
        return None
    at = np.log([node["positive_videos"] for node in nodes])
    here = float(np.log(positive_videos))
    nearest = nodes[int(np.argmin(np.abs(at - here)))]
    low, high = (float(np.interp(here, at, [node[name] for node in nodes])) for name in ("low_miss", "high_miss"))
    return MeasuredCoverage(
        quantity=quantity,
        positive_videos=positive_videos,
        coverage=1.0 - low - high,
        low_miss=low,
        high_miss=high,
        world=nearest["world"],
        sets=nearest["sets"],
        standard_error=nearest["standard_error"],
    )


def permutation_holds(*, positive_videos: int) -> bool:
    """Whether swapping models in videos calls equally good models different rarely enough, by the shipped table."""
    return rate_holds(_shipped().get("permutation", ()), positive_videos=positive_videos)


def rate_holds(nodes: Sequence[Mapping[str, Any]], *, positive_videos: int) -> bool:
    """Whether the interpolated false rate, less two standard errors, is at most 5 %; with 1,000 pairs that is a rate
    up to 6.4 %. Not below the smallest size measured; before any was measured there is no evidence against the test.
    """
    if not nodes:
        return True
    if positive_videos < nodes[0]["positive_videos"]:
        return False
    at = np.log([node["positive_videos"] for node in nodes])
    least = [node["false_rate"] - 2 * node["standard_error"] for node in nodes]
    return bool(np.interp(np.log(positive_videos), at, least) <= NOMINAL)


@cache
def _shipped() -> Mapping[str, Any]:
    source = resources.files("calot.statistics").joinpath("interval_coverage.json")
    loaded: Mapping[str, Any] = json.loads(source.read_text(encoding="utf-8")) if source.is_file() else {}
    return loaded
