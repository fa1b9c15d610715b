"""Which videos there are: splits, lengths, keyframes, and the draws that are spread evenly over each split.

Few videos would leave prevalence to luck (the real videos' means have a standard deviation of 0.2), so the levels of
an operation are drawn stratified within its split, and each split's threshold is set so that the majority label has
the real prevalence there. Every split then holds positives of every criterion, even with three videos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from calot.criteria import CRITERIA
from calot.phantom.spec import FEWEST_FRAMES, FRAME_STEP, KEYFRAME_STEP, SPLITS, PhantomSpec

#: Quantiles of the real train videos' lengths, in 1-fps frames (mean 305.8); the last is val's longest.
LENGTH_AT = (0.0, 0.01, 0.14, 0.23, 0.37, 0.50, 0.63, 0.75, 0.90, 0.95, 1.0)
LENGTH_QUANTILES = (48.0, 63.0, 63.0, 93.0, 153.0, 183.0, 303.0, 453.0, 663.0, 729.0, 1752.0)
REAL_MEAN_FRAMES = 305.8

#: Real videos end three frames behind their last keyframe and start 4, 9, ... 29 frames before their first.
TAIL = 3
LEADS = (4, 9, 14, 19, 24, 29)
STRIDE = KEYFRAME_STEP // FRAME_STEP


@dataclass(frozen=True, kw_only=True)
class VideoPlan:
    """One video before it is simulated; `level` and `onset` (by criterion, independent) and `rater_level` (by rater and
    criterion) are unit normal draws."""

    video: int
    split: str
    frames: int
    lead: int  # index of the first keyframe
    first_frame: int  # 25-fps number of the first frame
    level: tuple[float, ...]
    onset: tuple[float, ...]
    rater_level: tuple[tuple[float, ...], ...]
    shift: tuple[float, ...] = (0.0, 0.0, 0.0)

    @property
    def keyframes(self) -> NDArray[np.int64]:
        """Indices of the keyframes among the 1-fps frames."""
        return np.arange(self.lead, self.frames - TAIL, STRIDE)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The 25-fps frame numbers of all frames."""
        return self.first_frame + FRAME_STEP * np.arange(self.frames)


def split_sizes(spec: PhantomSpec) -> dict[str, int]:
    """Videos by split in the spec's shares, none empty: 201 give the real 120, 41, 40 and 12 give 7, 3, 2."""
    shares = np.asarray(spec.split_shares) / sum(spec.split_shares)
    sizes = np.maximum(np.floor(shares * spec.videos).astype(int), 1)
    while sizes.sum() != spec.videos:
        step = 1 if sizes.sum() < spec.videos else -1
        gap = (shares * spec.videos - sizes) * step
        gap[(sizes + step) < 1] = -np.inf
        sizes[int(gap.argmax())] += step
    return dict(zip(SPLITS, map(int, sizes), strict=True))


def _spread(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Uniform draws, one in each of `count` equal strata, so that neighbours lie in different quarters.

    Videos are planned in order of length: thus neither long nor short ones get all the high levels.
    """
    quarters = [rng.permutation(part) for part in np.array_split(np.arange(count), 4)]
    strata: list[int] = []
    for row in range(max(map(len, quarters))):
        strata += [int(quarters[q][row]) for q in rng.permutation(4) if row < len(quarters[q])]
    return np.asarray((np.asarray(strata) + rng.uniform(0.05, 0.95, count)) / count)


def _lengths(rng: np.random.Generator, spec: PhantomSpec, count: int) -> NDArray[np.int64]:
    drawn = np.exp(np.interp(_spread(rng, count), LENGTH_AT, np.log(LENGTH_QUANTILES)))
    scaled = np.clip(drawn * spec.mean_frames / REAL_MEAN_FRAMES, spec.min_frames, spec.max_frames)
    on_grid = TAIL + STRIDE * np.round((scaled - TAIL) / STRIDE).astype(np.int64)
    return np.sort(np.clip(on_grid, FEWEST_FRAMES, None))


def plan_videos(spec: PhantomSpec) -> list[VideoPlan]:
    """Every video of the spec, numbered from 1 through train, val, test; shifts are still 0."""
    rng = np.random.default_rng([spec.seed, 0])
    plans: list[VideoPlan] = []
    for split, count in split_sizes(spec).items():
        lengths = _lengths(rng, spec, count)
        level, onset, rater = (
            ndtri(np.stack([_spread(rng, count) for _ in range(columns)], axis=1))
            for columns in (len(CRITERIA), len(CRITERIA), 3 * len(CRITERIA))
        )
        for i in rng.permutation(count).tolist():
            allowed = [lead for lead in LEADS if lead <= max(LEADS[0], int(lengths[i]) // 4)]
            plans.append(
                VideoPlan(
                    video=len(plans) + 1,
                    split=split,
                    frames=int(lengths[i]),
                    lead=int(rng.choice(allowed)),
                    first_frame=FRAME_STEP * int(rng.integers(200, 1600)),
                    level=tuple(map(float, level[i])),
                    onset=tuple(map(float, onset[i])),
                    rater_level=tuple(tuple(map(float, row)) for row in rater[i].reshape(3, len(CRITERIA))),
                )
            )
    return plans
