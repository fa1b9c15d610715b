"""How much of a score is left on another data set: internal, external, their difference over videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from calot.criteria import CRITERIA
from calot.statistics.intervals import LEVEL, MIN_VIDEOS, ONE_VIDEO, Interval, satterthwaite, video_intervals
from calot.statistics.jackknife import NOT_SIMULATED, interval_fields
from calot.statistics.metrics import prevalence
from calot.statistics.paired_error import ScoredSide, welch_degrees
from calot.statistics.predictions import Predictions
from calot.statistics.resampling import Resampler
from calot.statistics.rounding import how_many

Array = NDArray[np.float64]
_NAMES = ("map", *CRITERIA)


@dataclass(frozen=True, kw_only=True)
class SiteScores:
    """One data set's scores, AP averaged over the runs: `ap` under `map` and each criterion, chance beside it."""

    dataset: str
    split: str
    protocol: str
    manifest_hash: str
    videos: int
    frames: int
    ap: dict[str, Interval]
    chance: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        told = {k: v for k, v in vars(self).items() if k != "ap"}
        return told | {"ap": {name: interval_fields(item) for name, item in self.ap.items()}}


@dataclass(frozen=True, kw_only=True)
class Transferred:
    """An external data set beside the internal one; `drop` is internal minus external."""

    external: SiteScores
    drop: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        drop = {name: interval_fields(item) for name, item in self.drop.items()}
        return {"external": self.external.to_dict(), "drop": drop, "interval": f"Welch over videos, {NOT_SIMULATED}"}


def site_scores(tables: Sequence[Predictions], *, split: str | None = None) -> SiteScores:
    """The scores of one data set's tables, one per run."""
    found, first = video_intervals(tables), tables[0]
    chance = {name: prevalence(first.labels[:, k]) for k, name in enumerate(CRITERIA)}
    return SiteScores(
        dataset=first.dataset,
        split=split or first.split,
        protocol=first.protocol,
        manifest_hash=first.manifest_hash,
        videos=found.videos,
        frames=len(first.frames),
        ap={"map": found.map, **found.ap},
        chance={"map": float(np.mean(list(chance.values()))), **chance},
    )


def transferred(
    internal: Sequence[Predictions], external: Sequence[Predictions], *, split: str | None = None
) -> Transferred:
    """Internal minus external, each criterion and their mean, with a 95 % interval.

    The two sets share no video, so that their jackknife variances add up; degrees of freedom are Satterthwaite's on
    each side, put together by Welch. It holds the checkpoints fixed.
    """
    sides = [ScoredSide.of(Resampler.of(list(tables))).left_out().mean(axis=1) for tables in (internal, external)]
    columns = {name: k for k, name in enumerate((*CRITERIA, "map"))}
    drop = {name: _difference(*(side[:, columns[name]] for side in sides)) for name in _NAMES}
    return Transferred(external=site_scores(external, split=split), drop=drop)


def _difference(a: Array, b: Array) -> Interval:
    """`a` and `b` are (videos + 1,): the value of all videos, then with each left out."""
    value = float(a[0] - b[0])
    if np.isnan(value):
        return Interval(value=None, low=None, high=None, reason="no positive label on one of the two data sets")
    few = min(len(a), len(b)) - 1
    if few < MIN_VIDEOS:
        reason = f"{how_many(few, 'video')} on one of the two data sets: an interval over videos needs {MIN_VIDEOS}"
        return Interval(value=value, low=None, high=None, reason=reason)
    if np.isnan(a).any() or np.isnan(b).any():
        return Interval(value=value, low=None, high=None, reason=ONE_VIDEO)
    squares = [(side[1:] - side[1:].mean()) ** 2 for side in (a, b)]
    variances = [(len(s) - 1) / len(s) * float(s.sum()) for s in squares]
    degrees = welch_degrees(variances, [satterthwaite(s) for s in squares])
    half = float(student.ppf((1 + LEVEL) / 2, degrees)) * float(np.sqrt(sum(variances)))
    return Interval(value=value, low=value - half, high=value + half)
