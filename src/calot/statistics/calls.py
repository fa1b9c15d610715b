"""What can be read out of one operation: each criterion achieved, not achieved or not assessable, second by second.

A criterion is achieved where its logit reaches the threshold frozen on val and its prediction set, frozen there too,
is {1}; not achieved where both say so; else the model abstains. Without limits, the threshold alone decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.statistics.frozen import FrozenOnVal
from calot.statistics.videos import held_passage


class Call(StrEnum):
    """What is said of one criterion in one second."""

    achieved = "achieved"
    not_achieved = "not achieved"
    abstains = "abstains"
    undecided = "no threshold"  # none could be frozen on val
    not_assessable = "not assessable"  # for the picture's sake


#: The state of a second whose picture can be judged.
ASSESSABLE = "assessable"


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A stretch of an operation, in seconds from its start to the end of its last second, and what it is."""

    what: str
    start: float
    end: float


def calls_of(
    logits: NDArray[np.float32], *, frozen: FrozenOnVal | None, assessable: NDArray[np.bool_], abstains: bool = True
) -> list[list[Call]]:
    """One list of calls per criterion, in the order of `CRITERIA`; `logits` are `(n, k)`.

    With `abstains` off the thresholds alone decide.
    """
    found = []
    for k, name in enumerate(CRITERIA):
        threshold = None if frozen is None else frozen.thresholds.values[name]
        limit = None if frozen is None or not abstains else frozen.limits.values[name]
        column = logits[:, k].astype(np.float64)
        if threshold is None:
            said = [Call.undecided] * len(column)
        else:
            yes, no = column >= threshold, column < threshold
            if limit is not None:  # the set holds 1 where -logit <= limit, and 0 where logit <= limit
                one, zero = -column <= limit, column <= limit
                yes, no = yes & one & ~zero, no & zero & ~one
            said = [
                Call.achieved if a else Call.not_achieved if b else Call.abstains for a, b in zip(yes, no, strict=True)
            ]
        found.append([call if seen else Call.not_assessable for call, seen in zip(said, assessable, strict=True)])
    return found


def all_held(calls: Sequence[Sequence[Call]]) -> NDArray[np.bool_]:
    """Where all criteria are achieved at once."""
    return np.array([all(call is Call.achieved for call in second) for second in zip(*calls, strict=True)], dtype=bool)


def first_held(calls: Sequence[Sequence[Call]], *, seconds: NDArray[np.int64], held: float) -> Passage | None:
    """The first passage of `held` seconds in which all criteria are achieved, from its first second on, or None."""
    found = held_passage(all_held(calls), frames=seconds, needed=held)
    if found is None:
        return None
    return Passage(what="held", start=float(seconds[found.start]), end=float(seconds[found.end]))


def passages(
    values: Sequence[str], *, seconds: NDArray[np.int64], step: int, without: str | None = None
) -> list[Passage]:
    """Runs of equal values in neighbouring seconds, `step` apart; those of `without` are left out."""
    if not len(values):
        return []
    cuts = [i for i in range(1, len(values)) if values[i] != values[i - 1] or seconds[i] - seconds[i - 1] != step]
    return [
        Passage(what=values[a], start=float(seconds[a]), end=float(seconds[b - 1] + step))
        for a, b in pairwise([0, *cuts, len(values)])
        if values[a] != without
    ]
