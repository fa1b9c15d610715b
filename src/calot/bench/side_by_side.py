"""Ours against the naive way in one run: first whether both give the same, then interleaved timings and their ratio."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from calot.memory import keep_freed_memory, memory_as_started
from calot.run.environment import processor_name


@dataclass(frozen=True, kw_only=True)
class ExactnessCheck:
    """How far ours is from the naive way in one respect, and the tolerance."""

    what: str
    difference: float
    tolerance: float

    @property
    def exact(self) -> bool:
        return self.difference <= self.tolerance

    @property
    def strain(self) -> float:
        """The difference in tolerances: above 1 is too far (so is NaN, which sorts last)."""
        if math.isnan(self.difference):
            return math.inf
        if self.tolerance == 0:
            return math.inf if self.difference else 0.0
        return self.difference / self.tolerance

    def to_dict(self) -> dict[str, Any]:
        finite = self.difference if math.isfinite(self.difference) else None
        return {"what": self.what, "largest_difference": finite, "tolerance": self.tolerance, "exact": self.exact}


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Wall-clock times of the same work, again and again."""

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def to_dict(self) -> dict[str, Any]:
        return {"median": self.median, "lowest": min(self.runs), "highest": max(self.runs), "runs": len(self.runs)}


@dataclass(frozen=True, kw_only=True)
class Aside:
    """The same work done our way under other conditions: its time, or why there is none."""

    name: str
    what: str
    seconds: float | None
    reason: str | None = None

    def to_dict(self, *, naive_s: float) -> dict[str, Any]:
        ratio = naive_s / self.seconds if self.seconds else None
        return {"what": self.what, "s": self.seconds, "ratio": ratio, "reason": self.reason}


@dataclass(frozen=True, kw_only=True)
class Contest:
    """One piece of work done in two ways.

    `checks` compares what both give. A call of `naive` does `naive_share` of the work and its time is scaled to the
    whole; a call of `ours` does all of it. `asides` are further timings worth knowing. A `plain` naive way is what a
    script does without calot: it has memory as Python starts with, ours as `calot.memory` keeps it.
    """

    bench: str
    work: str
    naive_way: str
    our_way: str
    target: float
    repeats: int
    checks: Callable[[], tuple[ExactnessCheck, ...]]
    naive: Callable[[], object]
    ours: Callable[[], object]
    naive_share: float = 1.0
    plain: bool = True
    asides: Callable[[], tuple[Aside, ...]] = tuple
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a contest gave; the times are None where ours is not exact, as a wrong answer has no speed."""

    contest: Contest
    checks: tuple[ExactnessCheck, ...]
    naive: Seconds | None = None
    ours: Seconds | None = None
    asides: tuple[Aside, ...] = ()

    @property
    def exact(self) -> bool:
        return all(check.exact for check in self.checks)

    @property
    def ratio(self) -> float | None:
        return self.naive.median / self.ours.median if self.naive and self.ours else None

    @property
    def reached(self) -> bool:
        return self.ratio is not None and self.ratio >= self.contest.target

    def to_dict(self) -> dict[str, Any]:
        worst = max(self.checks, key=lambda check: check.strain).to_dict()
        del worst["what"]
        return {
            "bench": self.contest.bench,
            "work": self.contest.work,
            "naive_way": self.contest.naive_way,
            "our_way": self.contest.our_way,
            "exactness": {**worst, "exact": self.exact, "checks": [check.to_dict() for check in self.checks]},
            "naive_s": self.naive.median if self.naive else None,
            "ours_s": self.ours.median if self.ours else None,
            "spread": {
                "naive": self.naive.to_dict() if self.naive else None,
                "ours": self.ours.to_dict() if self.ours else None,
            },
            "ratio": self.ratio,
            "target": self.contest.target,
            "reached": self.reached,
            "asides": {a.name: a.to_dict(naive_s=self.naive.median) for a in self.asides} if self.naive else {},
            "settings": {**self.contest.settings, "naive_share_timed": self.contest.naive_share, **machine_and_load()},
        }


def compete(contest: Contest) -> Outcome:
    """Check, then time naive and ours in turn (A B A B ...), after one untimed call each."""
    keep_freed_memory()
    checks = contest.checks()
    if not all(check.exact for check in checks):
        return Outcome(contest=contest, checks=checks)
    naive, ours = [], []
    for number in range(contest.repeats):
        with memory_as_started() if contest.plain else nullcontext():
            if not number:
                contest.naive()
            naive.append(seconds(contest.naive) / contest.naive_share)
        if contest.plain or not number:
            contest.ours()
        ours.append(seconds(contest.ours))
    return Outcome(
        contest=contest,
        checks=checks,
        naive=Seconds(runs=tuple(naive)),
        ours=Seconds(runs=tuple(ours)),
        asides=contest.asides(),
    )


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def largest_difference(expected: ArrayLike, got: ArrayLike) -> float:
    """Largest absolute difference; NaN in the same places is equal, in one alone is NaN; infinite for other shapes."""
    a, b = np.asarray(expected, dtype=np.float64), np.asarray(got, dtype=np.float64)
    if a.shape != b.shape:
        return math.inf
    off = np.abs(a - b)[~(np.isnan(a) & np.isnan(b))]
    return float(off.max(initial=0.0))


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch on one thread, so that a ratio says what the work costs and not how many cores there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine_and_load() -> dict[str, Any]:
    """What times were measured on, and how busy it was."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {"processor": processor_name(), "cores": os.cpu_count(), "threads": 1, "load_average": load}
