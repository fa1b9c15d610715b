"""Which rater says yes more, or less, often than every other one: shares, intervals over videos, Holm's correction.

With three raters one rater's bias makes the other two depart from the mean of the others, too. So a rater is only named
where it departs from each of the others, in the same direction (an intersection-union test: the largest p counts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.criteria import CRITERIA, label
from calot.statistics.intervals import Interval
from calot.statistics.jackknife import interval_fields, plain_interval, without_each
from calot.statistics.permutation import holm
from calot.statistics.rounding import between, rounded

Array = NDArray[np.float64]

#: All criteria together, beside each of them.
TOGETHER = "all criteria"
ALPHA = 0.05
#: Draws of signs where there are too many to go through.
_DRAWS, _EXACT_VIDEOS = 20_000, 14


@dataclass(frozen=True, kw_only=True)
class RaterDeparture:
    """How often one rater says yes to a criterion, and the others; `difference` has its 95 % interval over videos.

    `p`: the largest over the other raters of a two-sided sign-flip test over videos (1 where it lies between them).
    `p_holm` is corrected over raters, separately for each criterion's question and for all of them together.
    """

    rater: str
    criterion: str
    share: float
    others: float
    difference: Interval
    p: float
    p_holm: float

    @property
    def departs(self) -> bool:
        return self.p_holm < ALPHA

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        own = {name: getattr(self, name) for name in ("rater", "criterion", "share", "others", "p", "p_holm")}
        return own | {"difference": interval_fields(self.difference), "departs": self.departs}


@dataclass(frozen=True, kw_only=True)
class RaterBias:
    """Every rater on every criterion and on all together."""

    departures: Sequence[RaterDeparture]
    keyframes: int
    videos: int

    def of(self, rater: str) -> list[RaterDeparture]:
        """What is found of one rater."""
        return [one for one in self.departures if one.rater == rater]

    @property
    def raters(self) -> list[str]:
        return list(dict.fromkeys(one.rater for one in self.departures))

    @property
    def named(self) -> list[str]:
        """Raters who depart from every other one on all criteria together, the furthest first."""
        apart = [one for one in self.departures if one.criterion == TOGETHER and one.departs]
        return [one.rater for one in sorted(apart, key=lambda one: -abs(one.difference.value or 0.0))]

    def sentence(self, rater: str) -> str:
        """`says yes more often than each other rater: 31.0 % of votes against 15.2 % ...`, or that nothing is shown."""
        whole = next(one for one in self.of(rater) if one.criterion == TOGETHER)
        gap = whole.difference.value or 0.0
        single = [one for one in self.of(rater) if one.criterion != TOGETHER and one.departs]
        apart = ", ".join(
            f"{label(one.criterion)} ({rounded(100 * (one.difference.value or 0.0), digits=1, sign=True)} points)"
            for one in single
        )
        ends = whole.difference
        bounds = "" if ends.low is None or ends.high is None else f", {between(ends.low, ends.high, sign=True)}"
        shares = (
            f"{100 * whole.share:.1f} % of all votes against {100 * whole.others:.1f} % of the others’ "
            f"({rounded(100 * gap, digits=1, sign=True)} points{bounds}; p {whole.p_holm:.2g})"
        )
        if whole.departs:
            way = "more" if gap > 0 else "less"
            return f"says yes {way} often than each of the others: {shares}" + (f"; on {apart}" if apart else "")
        return f"does not depart from all others in one direction: {shares}" + (f"; but on {apart}" if apart else "")


def rater_bias(votes: NDArray[np.int8], *, videos: NDArray[np.str_], raters: Sequence[str]) -> RaterBias | None:
    """`votes` are 0 or 1, -1 where nobody voted, `(keyframe, rater, criterion)`. None without two raters, or keyframes
    that all of them saw."""
    seen = (votes >= 0).all(axis=(1, 2))
    votes, videos = votes[seen].astype(np.float64), videos[seen]
    if not len(votes) or votes.shape[1] < 2:
        return None
    columns = {name: votes[:, :, k] for k, name in enumerate(CRITERIA)} | {TOGETHER: votes.mean(axis=2)}
    found: list[RaterDeparture] = []
    for name, held in columns.items():
        mine = [_departure(held, rater=r, videos=videos, name=raters[r], criterion=name) for r in range(len(raters))]
        corrected = holm([one.p for one in mine])
        found += [replace(one, p_holm=p or 0.0) for one, p in zip(mine, corrected, strict=True)]
    return RaterBias(departures=found, keyframes=len(votes), videos=len(set(videos.tolist())))


def _departure(held: Array, *, rater: int, videos: NDArray[np.str_], name: str, criterion: str) -> RaterDeparture:
    units = np.unique(videos, return_inverse=True)[1]
    count = int(units.max()) + 1
    others = np.delete(held, rater, axis=1)
    apart = held[:, [rater]] - others
    sums = np.zeros((count, apart.shape[1] + 2))
    mean = held[:, rater] - others.mean(axis=1)
    np.add.at(sums, units, np.column_stack([apart, mean, np.ones(len(held))]))
    left = without_each(sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = left[:, -2] / left[:, -1]
    totals = sums[:, :-2].sum(axis=0)
    same_way = bool((totals > 0).all() or (totals < 0).all())
    return RaterDeparture(
        rater=name,
        criterion=criterion,
        share=float(held[:, rater].mean()),
        others=float(others.mean()),
        difference=plain_interval(float(mean.mean()), left_out=left_out),
        p=float(max(flipped_signs(sums[:, o]) for o in range(apart.shape[1]))) if same_way else 1.0,
        p_holm=1.0,
    )


def flipped_signs(sums: Array) -> float:
    """Two-sided p of a sum over videos that is 0 if the two raters can be exchanged in each: exact up to 14 videos that
    differ, else from 20,000 draws, the observed one among them."""
    held = sums[sums != 0]
    if not len(held):
        return 1.0
    if len(held) <= _EXACT_VIDEOS:
        signs = 1.0 - 2.0 * ((np.arange(2 ** len(held))[:, None] >> np.arange(len(held))) & 1)
    else:
        drawn = np.random.default_rng(len(held)).integers(0, 2, size=(_DRAWS, len(held)))
        signs = np.concatenate([np.ones((1, len(held))), 1.0 - 2.0 * drawn])
    extreme = np.abs(signs @ held) >= abs(held.sum()) - 1e-9
    return float(extreme.mean())
