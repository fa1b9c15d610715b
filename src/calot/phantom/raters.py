"""Three raters look at one state: each with a threshold, a separate level per video, and doubts that last."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.phantom.dynamics import State, spells
from calot.phantom.plan import VideoPlan
from calot.phantom.spec import PhantomSpec

RATERS = 3

Votes = NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class RaterHabits:
    """How the three raters read one criterion, in the state's unit; fitted with `CriterionDynamics`.

    Rater r says yes where q + lean[r] + doubt > 0; real rater 1 says yes to C1 on 2 % of keyframes, rater 3 on 28 %.
    """

    lean: tuple[float, float, float]
    doubt_sd: tuple[float, float, float]  # within a video
    video_sd: tuple[float, float, float]  # between videos
    doubt_seconds: float

    def spread(self, share: float) -> RaterHabits:
        """The same with every rater's habits moved to their mean: all the way at 0, not at all at 1."""
        if share == 1.0:  # not a bit of an older phantom may change
            return self
        lean, doubt, video = (_moved(v, share=share) for v in (self.lean, self.doubt_sd, self.video_sd))
        return replace(self, lean=lean, doubt_sd=doubt, video_sd=video)


def _moved(values: tuple[float, float, float], *, share: float) -> tuple[float, float, float]:
    """Towards their mean by 1 - `share`; what none of them is, negative, none becomes."""
    mean = sum(values) / len(values)
    one, two, three = (mean + share * (value - mean) for value in values)
    return (one, two, three) if min(values) < 0 else (max(0.0, one), max(0.0, two), max(0.0, three))


HABITS: dict[str, RaterHabits] = dict(
    zip(
        CRITERIA,
        (
            RaterHabits(
                lean=(-2.97, 0.10, 0.90), doubt_sd=(0.51, 0.44, 0.91), video_sd=(0.34, 0.34, 0.34), doubt_seconds=11.0
            ),
            RaterHabits(
                lean=(-0.66, 0.18, 0.47), doubt_sd=(1.05, 0.42, 0.15), video_sd=(0.72, 0.65, 0.65), doubt_seconds=12.4
            ),
            RaterHabits(
                lean=(0.75, -1.05, 0.26), doubt_sd=(1.10, 0.20, 0.32), video_sd=(1.75, 1.35, 1.20), doubt_seconds=15.7
            ),
        ),
        strict=True,
    )
)

#: Correlation of one rater's doubts across criteria.
DOUBT_SHARED = 0.9


def readings(
    state: State, *, plan: VideoPlan, rng: np.random.Generator, rater_spread: float = 1.0
) -> NDArray[np.float64]:
    """What each rater sees before deciding, n x rater x criterion: yes where positive."""
    n = len(state.q)
    apart = np.sqrt(1.0 - DOUBT_SHARED**2)
    seen = np.empty((n, RATERS, len(CRITERIA)))
    for r in range(RATERS):
        common = rng.standard_normal(n)
        for k, name in enumerate(CRITERIA):
            habit = HABITS[name].spread(rater_spread)
            doubt = spells(DOUBT_SHARED * common + apart * rng.standard_normal(n), seconds=habit.doubt_seconds)
            level = habit.lean[r] + habit.video_sd[r] * plan.rater_level[r][k]
            seen[:, r, k] = state.q[:, k] + level + habit.doubt_sd[r] * doubt
    return seen


def votes(seen: NDArray[np.float64], *, spec: PhantomSpec) -> Votes:
    """The raters' answers 0 or 1, n x rater x criterion, with the spec's biased rater."""
    if spec.biased_rater is not None:
        seen = seen.copy()
        seen[:, spec.biased_rater - 1] += spec.rater_bias
    return np.asarray(seen > 0, dtype=np.int8)


def fills(values: NDArray[np.float64], *, keyframes: NDArray[np.int64], frames: int) -> NDArray[np.float64]:
    """What `all_metadata.csv` holds on every frame: the nearest keyframe's value (the later one never ties, as
    keyframes stand five frames apart), and 0 before the first and after the last keyframe."""
    at = np.arange(frames)
    nearest = np.abs(at[:, None] - keyframes[None, :]).argmin(axis=1)
    filled = values[nearest]
    filled[(at < keyframes[0]) | (at > keyframes[-1])] = 0.0
    return np.asarray(filled)
