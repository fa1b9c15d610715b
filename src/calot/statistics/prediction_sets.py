"""Prediction sets whose coverage is over videos: {0}, {1}, both (the model abstains) or neither, by conformal sets.

A label belongs to a frame's set where its score (logit for 0, -logit for 1) is at most a limit. The limit is that of
hierarchical conformal prediction (Dunn, Wasserman and Ramdas 2023; Lee, Barber and Willett 2023): each calibration
video has the mass 1 / (V + 1), split evenly over its frames, a video yet to come has the rest, at infinity, and the
limit is a quantile of these masses. If videos are exchangeable, a random frame of a new video has its label in its set
with at least the probability of that quantile, however alike a video's frames are. Frames in place of videos would
promise too much.

Half of the coming video's mass is taken off the quantile: at a nominal 90 % it is 90 % - 1 / (2 (V + 1)), which is what
is guaranteed; the sets then hold about 90 % instead of up to 1 / (V + 1) more (docs/results/conformal_coverage.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.frame_sums import VideoUnits
from calot.statistics.intervals import Interval
from calot.statistics.jackknife import interval_fields, proportion_interval, without_each
from calot.statistics.predictions import Predictions

Array = NDArray[np.float64]
GUARANTEE = (
    "a random frame of a new video has its label in its set with at least this probability; each video counts once"
)
ON_ITSELF = "each video with the limit of the other videos"
FROZEN = "with the limits frozen on val"
NOT_FROZEN = "no limits frozen on val (val.parquet beside the table, or --frozen)"
TOO_FEW = "too few videos for a limit at this coverage: every set holds both labels"
LEVEL = 0.9
_WHY = {
    "ppv": "no frame has the set {1}",
    "npv": "no frame has the set {0}",
    "accuracy": "no frame has a set of one label",
    "positives": "no positive label",
    "negatives": "no negative label",
}


@dataclass(frozen=True, kw_only=True)
class SetLimits:
    """The limit on logits per criterion (infinite, written as None, where videos are too few), frozen on one split.

    `level` is the coverage asked for, `guaranteed` what `videos` calibration videos guarantee.
    """

    values: dict[str, float | None]
    level: float
    guaranteed: float
    videos: int
    split: str


@dataclass(frozen=True, kw_only=True)
class SetRates:
    """What the sets of one criterion come to. `coverage` and `abstained` (both labels) and `empty` are means over
    videos of each one's share of frames; the others are shares of frames.

    `positives` and `negatives` are the coverage of frames of either label, for which nothing is guaranteed. `accuracy`,
    `ppv` and `npv` are of the frames whose set holds one label.
    """

    limit: float | None
    coverage: Interval
    abstained: Interval
    empty: Interval
    positives: Interval
    negatives: Interval
    accuracy: Interval
    ppv: Interval
    npv: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; a limit of null is one that every frame meets."""
        held = {name: interval_fields(getattr(self, name)) for name in asdict(self) if name != "limit"}
        return {"limit": self.limit, **held}


def label_scores(labels: ArrayLike, *, logits: ArrayLike) -> Array:
    """How little each frame's logit agrees with its own label: -logit where it is 1, logit where it is 0."""
    truth, score = np.asarray(labels).astype(bool), np.asarray(logits, dtype=np.float64)
    return np.where(truth, -score, score)


def guaranteed(level: float, *, videos: int) -> float:
    """What is guaranteed at a nominal level: the level less half of the coming video's mass."""
    return level - 0.5 / (videos + 1)


def set_limit(scores: ArrayLike, *, units: VideoUnits, level: float = LEVEL) -> float:
    """The limit from calibration videos; infinite where they are too few. Raises CalotError for a level outside (0, 1)
    or too low for half a video's mass."""
    return float(_limits(np.asarray(scores, dtype=np.float64), units=units, level=level, out=None)[0])


def _limits(scores: Array, *, units: VideoUnits, level: float, out: NDArray[np.intp] | None) -> Array:
    """The limit from all videos, or for each of `out` from the videos without it."""
    count = units.count if out is None else units.count - 1
    target = guaranteed(level, videos=count)
    if not 0.0 < target < 1.0 or level >= 1.0:
        raise CalotError(f"coverage={level}: with {count} videos it lies above {0.5 / (count + 1):.3f} and below 1")
    order = np.argsort(scores, kind="stable")
    score, unit = scores[order], units.index[order]
    weight = 1.0 / (units.sums(np.ones(len(score)))[unit] * (count + 1))
    found = []
    for video in [-1] if out is None else out:
        mass = np.cumsum(np.where(unit == video, 0.0, weight))
        place = int(np.searchsorted(mass, target - 1e-12))
        found.append(score[place] if place < len(score) else np.inf)
    return np.array(found)


def freeze_limits(predictions: Predictions, *, level: float = LEVEL) -> SetLimits:
    """Freeze the limits on val, over all seeds' frames. Refuses the test split."""
    if predictions.split == "test":
        raise CalotError(f"{predictions.source}: prediction sets are calibrated on val, never on test")
    units = VideoUnits.of(predictions.videos)
    values = {}
    for k, name in enumerate(CRITERIA):
        scores = label_scores(predictions.labels[:, k], logits=predictions.logits[:, k])
        limit = set_limit(scores, units=units, level=level)
        values[name] = limit if np.isfinite(limit) else None
    floor = guaranteed(level, videos=units.count)
    return SetLimits(values=values, level=level, guaranteed=floor, videos=units.count, split=predictions.split)


def set_rates(labels: ArrayLike, *, logits: ArrayLike, units: VideoUnits, limits: SetLimits, limit: float | None,
              own: bool) -> SetRates:  # fmt: skip
    """Sets of every frame and what they come to. With `own` the limits were calibrated on these same frames, and each
    video is held to the limit of the others."""
    truth, score = np.asarray(labels).astype(bool), np.asarray(logits, dtype=np.float64)
    each = np.full(units.count, np.inf if limit is None else limit)
    if own and units.count > 1:
        scores = label_scores(truth, logits=score)
        each = _limits(scores, units=units, level=limits.level, out=np.arange(units.count))
    at = each[units.index]
    one, zero = -score <= at, score <= at
    covered = np.where(truth, one, zero)
    single, frames = one != zero, units.sums(np.ones(len(truth)))
    whole = {
        "coverage": units.sums(covered) / frames,
        "abstained": units.sums(one & zero) / frames,
        "empty": units.sums(~one & ~zero) / frames,
    }
    parts = {
        "positives": (covered & truth, truth),
        "negatives": (covered & ~truth, ~truth),
        "accuracy": (single & covered, single),
        "ppv": (single & one & truth, single & one),
        "npv": (single & zero & ~truth, single & zero),
    }
    held = {name: _mean(shares) for name, shares in whole.items()}
    held |= {name: _ratio(*pair, units=units, reason=_WHY[name]) for name, pair in parts.items()}
    return SetRates(limit=limit, **held)


def _mean(shares: Array) -> Interval:
    left_out = without_each(shares) / max(len(shares) - 1, 1)
    return proportion_interval(float(shares.mean()), left_out=left_out)


def _ratio(part: NDArray[np.bool_], whole: NDArray[np.bool_], *, units: VideoUnits, reason: str) -> Interval:
    sums = units.sums(part), units.sums(whole)
    if not sums[1].sum():
        return Interval(value=None, low=None, high=None, reason=reason)
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = without_each(sums[0]) / without_each(sums[1])
    return proportion_interval(float(sums[0].sum() / sums[1].sum()), left_out=left_out)


def set_fields(found: Mapping[str, SetRates], *, limits: SetLimits | None, own: bool) -> dict[str, Any]:
    """What `--json` holds: level, guarantee, how the limits were applied, and each criterion's rates."""
    if limits is None:
        return {"level": None, "guaranteed": None, "reason": NOT_FROZEN, "criteria": {}}
    return {
        "level": limits.level,
        "guaranteed": limits.guaranteed,
        "guarantee": GUARANTEE,
        "calibration_videos": limits.videos,
        "applied": ON_ITSELF if own else FROZEN,
        "reason": TOO_FEW if None in limits.values.values() else None,
        "criteria": {name: item.to_dict() for name, item in found.items()},
    }
