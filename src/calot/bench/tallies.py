"""Counts of simulated intervals that missed the truth, by their number of positive videos."""

from __future__ import annotations

import numpy as np

#: A tally holds, per quantity and bin: intervals, truths below, truths above, and the sum of positive videos.
Tally = dict[str, dict[str, list[float]]]
EDGES = (2, 4, 6, 9, 13, 19, 28, 41, 60, 90)


def bin_of(positive_videos: int) -> str:
    """The least number of positive videos of the bin."""
    return str(EDGES[int(np.searchsorted(EDGES, positive_videos, side="right")) - 1])


def count_interval(tally: Tally, quantity: str, positive_videos: int, *, low: float, high: float, truth: float) -> None:
    """One interval."""
    row = tally.setdefault(quantity, {}).setdefault(bin_of(positive_videos), [0, 0, 0, 0])
    for place, added in enumerate((1, truth < low, truth > high, positive_videos)):
        row[place] += int(added)


def merge(into: Tally, other: Tally) -> None:
    """Add another block's counts."""
    for quantity, bins in other.items():
        for name, row in bins.items():
            have = into.setdefault(quantity, {}).setdefault(name, [0] * len(row))
            into[quantity][name] = [x + y for x, y in zip(have, row, strict=True)]


def total(tally: Tally, quantity: str) -> list[float]:
    """All bins together."""
    rows = list(tally.get(quantity, {}).values())
    return [float(x) for x in np.sum(rows, axis=0)] if rows else [0.0] * 4
