"""The rater ceiling on one target with the model: a single rater's votes, scored by the other raters and by the model.

Each frame counts once per rater, with that rater's vote as the label. The others' mean vote is the ceiling's score, the
logit is the model's. Both are functions of the rater mean: which rater voted how does not matter to the pooled AP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.statistics.intervals import Interval
from calot.statistics.jackknife import interval_fields, plain_interval, proportion_interval
from calot.statistics.predictions import Predictions
from calot.statistics.resampling import WeightedAP, jackknife_weights

Array = NDArray[np.float64]
TARGET = "the vote of one rater at a time, each frame once per rater"
MOST_RATERS = 12
NO_MEANS = "the table holds no rater means"
NO_DISAGREEMENT = "no frame on which raters disagree: how many raters there were cannot be told"
NOT_MEANS = f"the soft labels are not means of 2 to {MOST_RATERS} votes"


@dataclass(frozen=True, kw_only=True)
class OnVotes:
    """AP on single raters' votes: of the other raters (`ceiling`), of the model, and model minus ceiling."""

    ceiling: Interval
    model: Interval
    difference: Interval


@dataclass(frozen=True, kw_only=True)
class RaterCeiling:
    """`raters` is read off the rater means; where it is None, `reason` says why there is no ceiling."""

    raters: int | None
    map: OnVotes | None
    ap: dict[str, OnVotes]
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `map` and `ap` are null without a ceiling."""
        if self.map is None:
            return {"raters": None, "target": TARGET, "map": None, "ap": None, "reason": self.reason}
        ap = {name: _fields(item) for name, item in self.ap.items()}
        return {"raters": self.raters, "target": TARGET, "map": _fields(self.map), "ap": ap, "reason": None}


def rater_ceiling(predictions: Predictions) -> RaterCeiling:
    """Leave one rater out, on exactly the frames scored; seeds are averaged."""
    parts = predictions.by_seed()
    soft = parts[0].soft
    raters, reason = (None, NO_MEANS) if soft is None else count_raters(soft)
    if soft is None or raters is None:
        return RaterCeiling(raters=None, map=None, ap={}, reason=reason)
    units = np.unique(parts[0].videos, return_inverse=True)[1]
    count = int(units.max()) + 1
    weights = np.vstack([np.ones((1, count), dtype=np.int32), jackknife_weights(count)])
    others, model = [], []
    for k in range(len(CRITERIA)):
        yes = np.rint(soft[:, k].astype(np.float64) * raters)[:, None]
        votes = np.arange(raters)[None, :] < yes
        score = (yes - votes) / (raters - 1)
        unit = np.repeat(units, raters)
        others.append(WeightedAP.of(votes.ravel(), scores=score.ravel(), units=unit, count=count)(weights))
        logits = [np.repeat(part.logits[:, k], raters) for part in parts]
        seeds = [WeightedAP.of(votes.ravel(), scores=s, units=unit, count=count)(weights) for s in logits]
        model.append(np.mean(seeds, axis=0))
    ap = {name: _on_votes(others[k], model=model[k]) for k, name in enumerate(CRITERIA)}
    total = _on_votes(np.mean(others, axis=0), model=np.mean(model, axis=0))
    return RaterCeiling(raters=raters, map=total, ap=ap, reason=None)


def count_raters(soft: NDArray[np.float32]) -> tuple[int | None, str | None]:
    """The least number of raters whose means these can be, or None and why: unanimity leaves it open."""
    values = np.unique(soft.astype(np.float64))
    if np.isin(values, (0.0, 1.0)).all():
        return None, NO_DISAGREEMENT
    for raters in range(2, MOST_RATERS + 1):
        if np.abs(values * raters - np.rint(values * raters)).max() < 1e-3 * raters:
            return raters, None
    return None, NOT_MEANS


def _on_votes(ceiling: Array, *, model: Array) -> OnVotes:
    """From values whose first is the whole table's and whose others are without each video."""
    why = "no positive vote"
    shown = (proportion_interval(float(a[0]), left_out=a[1:], reason=why) for a in (ceiling, model))
    difference = model - ceiling
    return OnVotes(
        ceiling=next(shown),
        model=next(shown),
        difference=plain_interval(float(difference[0]), left_out=difference[1:], reason=why),
    )


def _fields(item: OnVotes) -> dict[str, Any]:
    return {name: interval_fields(getattr(item, name)) for name in ("ceiling", "model", "difference")}
