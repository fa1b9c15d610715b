"""Which criteria a run detects: each against the others, on clips that show exactly one.

On all clips a criterion that cannot be seen still has an AP above chance, because the others come with it. Among clips
that show exactly one criterion, what comes with the others points the wrong way: only what shows the criterion itself
ranks its clips above the others'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from calot.criteria import CRITERIA, label
from calot.statistics.clip_groups import of_category, only
from calot.statistics.intervals import MIN_VIDEOS, Interval
from calot.statistics.jackknife import interval_fields, plain_interval, proportion_interval
from calot.statistics.resampling import WeightedAP, jackknife_weights
from calot.statistics.rounding import how_many

Array = NDArray[np.float64]
Standing = Literal["detected", "undetectable", "undecided"]

#: AP points above chance, as a share, that a criterion must be able to reach for "undetectable" to be withheld.
MARGIN = 0.10


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One criterion: AP of its score, `chance` (the share of its clips) and AP minus chance with their intervals over
    videos, on the clips that show exactly one criterion; `among_all` is the AP on every labelled clip.

    `standing` is "undetectable" where the interval of AP minus chance ends below `MARGIN`, "detected" where it begins
    above 0; where both or neither hold, "undecided".
    """

    criterion: str
    clips: int
    videos: int
    single: int
    ap: Interval
    chance: float | None
    lift: Interval
    among_all: Interval
    chance_among_all: float | None

    @property
    def standing(self) -> Standing:
        low, high = self.lift.low, self.lift.high
        if low is None or high is None or (low > 0) == (high < MARGIN):
            return "undecided"
        return "detected" if low > 0 else "undetectable"

    def sentence(self) -> str:
        """`C2 hepatocystic triangle is undetectable: AP 21.0 (14.1 to 30.2), chance 33.3`."""
        name, said = label(self.criterion), {"detected": "is detected", "undetectable": "is undetectable"}
        if self.ap.value is None or self.chance is None:
            return f"{name} cannot be judged: {self.ap.reason}"
        low, high = self.ap.low, self.ap.high
        bounds = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
        numbers = f"AP {100 * self.ap.value:.1f}{bounds}, chance {100 * self.chance:.1f}"
        if self.standing != "undecided":
            return f"{name} {said[self.standing]}: {numbers}"
        why = f" ({self.lift.reason})" if self.lift.reason else ""
        return f"{name} is neither shown to be detected nor to be undetectable{why}: {numbers}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        own = {name: getattr(self, name) for name in ("criterion", "clips", "videos", "single", "chance")}
        own |= {name: interval_fields(getattr(self, name)) for name in ("ap", "lift", "among_all")}
        return own | {"chance_among_all": self.chance_among_all, "standing": self.standing, "says": self.sentence()}


@dataclass(frozen=True, kw_only=True)
class CriterionComparison:
    """Every criterion's `Detection`, and which criterion scored highest on the clips that show exactly one.

    `highest` counts by the criterion shown and the one with the highest logit; `highest_rank` by the highest rank
    among all clips of the split, which a criterion's prevalence does not tilt.
    """

    detections: Mapping[str, Detection]
    highest: NDArray[np.int64]
    highest_rank: NDArray[np.int64]

    @property
    def blind(self) -> list[str]:
        """The criteria that are undetectable."""
        return [name for name, one in self.detections.items() if one.standing == "undetectable"]


def compare_criteria(
    labels: NDArray[np.int8], *, logits: NDArray[np.float32], videos: NDArray[np.str_]
) -> CriterionComparison:
    """`labels` 0 or 1 and `logits` are `(n, k)` of clips that are all labelled, `videos` whose they are."""
    one = of_category(labels, name="exactly one")
    found = {
        name: _detection(name, place=k, labels=labels, logits=logits, videos=videos, one=one)
        for k, name in enumerate(CRITERIA)
    }
    ranks = np.stack([rankdata(logits[:, k]) for k in range(len(CRITERIA))], axis=1)
    return CriterionComparison(
        detections=found, highest=_highest(labels, scores=logits), highest_rank=_highest(labels, scores=ranks)
    )


def _highest(labels: NDArray[np.int8], *, scores: NDArray[Any]) -> NDArray[np.int64]:
    counts = np.zeros((len(CRITERIA), len(CRITERIA)), dtype=np.int64)
    for k, name in enumerate(CRITERIA):
        chosen = only(labels, criterion=name)
        counts[k] = np.bincount(scores[chosen].argmax(axis=1), minlength=len(CRITERIA))
    return counts


def _detection(
    name: str,
    *,
    place: int,
    labels: NDArray[np.int8],
    logits: NDArray[np.float32],
    videos: NDArray[np.str_],
    one: NDArray[np.bool_],
) -> Detection:
    own, scores = labels[:, place], logits[:, place]
    ap, lift, chance = ap_against_chance(own[one], scores=scores[one], videos=videos[one], name=name)
    everywhere, _, everywhere_chance = ap_against_chance(own, scores=scores, videos=videos, name=name)
    shown = one & (own > 0)
    return Detection(
        criterion=name,
        clips=int(shown.sum()),
        videos=len(set(videos[shown].tolist())),
        single=int(one.sum()),
        ap=ap,
        chance=chance,
        lift=lift,
        among_all=everywhere,
        chance_among_all=everywhere_chance,
    )


def ap_against_chance(
    labels: NDArray[np.int8], *, scores: NDArray[Any], videos: NDArray[np.str_], name: str
) -> tuple[Interval, Interval, float | None]:
    """AP, AP minus the share of positives, and that share; both with 95 % intervals by leaving out each video.

    Without an interval where the positives, or the negatives, are of fewer than 3 videos.
    """
    positive = labels > 0
    if not positive.any() or positive.all():
        which = "shows it" if not positive.any() else "shows another"
        undefined = Interval(value=None, low=None, high=None, reason=f"no clip {which}")
        return undefined, undefined, float(positive.mean()) if len(labels) else None
    names, units = np.unique(videos, return_inverse=True)
    weights = np.concatenate([np.ones((1, len(names)), dtype=np.int32), jackknife_weights(len(names))])
    ap = WeightedAP.of(positive, scores=scores, units=units, count=len(names))(weights)
    clips = np.bincount(units, minlength=len(names)), np.bincount(units[positive], minlength=len(names))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (weights @ clips[1]) / (weights @ clips[0])
    few = [n for n in (int((clips[1] > 0).sum()), int((clips[0] > clips[1]).sum())) if n < MIN_VIDEOS]
    if few:
        why = f"only {how_many(few[0], 'video')} with {'it' if few[0] == int((clips[1] > 0).sum()) else 'another'}"
        bare = (Interval(value=v, low=None, high=None, reason=why) for v in (float(ap[0]), float(ap[0] - share[0])))
        return next(bare), next(bare), float(share[0])
    gap = ap - share
    return (
        proportion_interval(float(ap[0]), left_out=ap[1:]),
        plain_interval(float(gap[0]), left_out=gap[1:]),
        float(share[0]),
    )
