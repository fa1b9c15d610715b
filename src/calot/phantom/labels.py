"""Labels without pictures: every video's state, votes and CSV columns, in seconds for hundreds of videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.phantom.dynamics import State, simulate_state
from calot.phantom.plan import VideoPlan, plan_videos
from calot.phantom.raters import Votes, fills, readings, votes
from calot.phantom.spec import SPLITS, PhantomSpec
from calot.phantom.turning import draw_turning, turned

#: Majority prevalence (C1, C2, C3) that each split is set to: the real train and val keyframes; for test, whose
#: tables are not public here, train's times 22.7 / 14.9, the published mean over train's.
PREVALENCE: dict[str, tuple[float, float, float]] = {
    "train": (0.156, 0.112, 0.179),
    "val": (0.163, 0.125, 0.167),
    "test": (0.238, 0.171, 0.272),
}


@dataclass(frozen=True, kw_only=True)
class VideoLabels:
    """One simulated video: its plan, its hidden state on every frame, and the votes on its keyframes."""

    plan: VideoPlan
    state: State
    votes: Votes  # keyframe x rater x criterion

    @property
    def mean(self) -> NDArray[np.float64]:
        """Rater mean on keyframes, keyframe x criterion."""
        return np.asarray(self.votes.mean(axis=1))

    @property
    def majority(self) -> NDArray[np.int8]:
        """Majority of the raters on keyframes, keyframe x criterion."""
        return np.asarray(self.votes.sum(axis=1) >= 2, dtype=np.int8)

    @property
    def filled(self) -> NDArray[np.float64]:
        """The C columns of `all_metadata.csv` on every 1-fps frame, frame x criterion."""
        return fills(self.mean, keyframes=self.plan.keyframes, frames=self.plan.frames)


def stream(spec: PhantomSpec, *, video: int, purpose: int) -> np.random.Generator:
    """A video's own random numbers for one purpose (0 state, 1 raters, 2 picture, 3 cue, 4 turning, 5 staging)."""
    return np.random.default_rng([spec.seed, video, purpose])


def state_of(plan: VideoPlan, *, spec: PhantomSpec) -> State:
    """The hidden state of one planned video, of two sides where the spec turns the gallbladder over."""
    state = simulate_state(plan, rng=stream(spec, video=plan.video, purpose=0))
    if spec.turn_seconds == 0:
        return state
    rng = stream(spec, video=plan.video, purpose=4)
    return turned(state, turning=draw_turning(plan, seconds=spec.turn_seconds, rng=rng))


def label_video(plan: VideoPlan, *, spec: PhantomSpec) -> VideoLabels:
    """State and votes of one planned video."""
    state = state_of(plan, spec=spec)
    seen = readings(state, plan=plan, rng=stream(spec, video=plan.video, purpose=1), rater_spread=spec.rater_spread)
    return VideoLabels(plan=plan, state=state, votes=votes(seen, spec=spec)[plan.keyframes])


def calibrated_plans(spec: PhantomSpec) -> list[VideoPlan]:
    """Plans whose shifts give each split the prevalence of `PREVALENCE`: the majority says yes where the median
    reading is positive, so the shift is that reading's quantile. A biased rater comes on top."""
    plans = plan_videos(spec)
    shifted: list[VideoPlan] = []
    for split in SPLITS:
        members = [plan for plan in plans if plan.split == split]
        shift = _shift(members, spec=spec, prevalence=PREVALENCE[split])
        shifted += [replace(plan, shift=shift) for plan in members]
    return shifted


def _shift(plans: Sequence[VideoPlan], *, spec: PhantomSpec, prevalence: Sequence[float]) -> tuple[float, ...]:
    medians = []
    for plan in plans:
        state = state_of(plan, spec=spec)
        seen = readings(state, plan=plan, rng=stream(spec, video=plan.video, purpose=1), rater_spread=spec.rater_spread)
        medians.append(np.median(seen[plan.keyframes], axis=1))
    stacked = np.concatenate(medians)
    return tuple(-float(np.quantile(stacked[:, k], 1.0 - prevalence[k])) for k in range(len(CRITERIA)))


def simulate_labels(spec: PhantomSpec) -> list[VideoLabels]:
    """The labels `generate` would write for this spec, without drawing a picture."""
    return [label_video(plan, spec=spec) for plan in calibrated_plans(spec)]
