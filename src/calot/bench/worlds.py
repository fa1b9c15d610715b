"""Simulated sets of operations in several worlds, and the truth that an interval should contain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]
POPULATION = 40_000


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedSet:
    """Frames of some operations: labels and scores (n, 3), and each frame's video 0 ... V - 1."""

    labels: NDArray[np.bool_]
    scores: Array
    videos: NDArray[np.int64]

    @property
    def positive_videos(self) -> tuple[int, ...]:
        """Videos that hold a positive frame, per criterion."""
        return tuple(len(np.unique(self.videos[self.labels[:, k]])) for k in range(3))


@dataclass(frozen=True, kw_only=True)
class World:
    """How long videos are, how labels cluster in them, and how scores lean by video; the defaults are shaped like val.

    Lengths are log-normal (median 31 keyframes, clipped to 7 ... `longest`); a share `reached` of the videos holds a
    criterion at all, in a Beta-distributed share of its later frames. A score is separation (which varies by video)
    times label, plus a video's effect, a passage's effect (8 frames) and a frame's noise. With `tail` the video effects
    follow Student's t with that many degrees of freedom, scaled to the same variance.
    """

    median_length: float = 31.0
    log_length_sd: float = 1.1
    longest: int = 350
    reached: tuple[float, ...] = (0.54, 0.54, 0.49)
    share: tuple[tuple[float, float], ...] = ((0.9, 2.1), (0.9, 3.0), (0.9, 1.75))
    agreement: float = 0.5
    separation: float = 1.9
    separation_sd: float = 0.8
    video_sd: float = 0.9
    passage_sd: float = 0.5
    frame_sd: float = 0.8
    tail: float | None = None

    def draw(self, rng: np.random.Generator, *, videos: int) -> SimulatedSet:
        """A new set of operations."""
        length = np.rint(np.exp(rng.normal(np.log(self.median_length), self.log_length_sd, videos)))
        length = np.clip(length, 7, self.longest).astype(np.int64)
        video = np.repeat(np.arange(videos), length)
        first = np.repeat(np.cumsum(length) - length, length)
        position = (np.arange(len(video)) - first + 0.5) / length[video]
        passage = np.cumsum((np.arange(len(video)) - first) % 8 == 0) - 1
        labels = self._labels(rng, video=video, position=position, videos=videos)
        lean = self._shared(rng, videos) * self.video_sd * self._stretch(rng, videos)
        gain = self.separation + self.separation_sd * rng.normal(size=(videos, 3))
        local = self.passage_sd * rng.normal(size=(int(passage[-1]) + 1, 3))
        scores = labels * gain[video] + lean[video] + local[passage] + self.frame_sd * rng.normal(size=labels.shape)
        return SimulatedSet(labels=labels, scores=scores, videos=video)

    def _shared(self, rng: np.random.Generator, videos: int) -> Array:
        """Standard normals per video and criterion, correlated over criteria by `agreement`."""
        common = np.sqrt(self.agreement) * rng.normal(size=(videos, 1))
        return np.asarray(common + np.sqrt(1 - self.agreement) * rng.normal(size=(videos, 3)), dtype=np.float64)

    def _stretch(self, rng: np.random.Generator, videos: int) -> Array:
        if self.tail is None:
            return np.ones((videos, 1))
        scale = np.sqrt((self.tail - 2) / rng.chisquare(self.tail, size=(videos, 1)))
        return np.asarray(scale, dtype=np.float64)

    def _labels(
        self, rng: np.random.Generator, *, video: NDArray[np.int64], position: Array, videos: int
    ) -> NDArray[np.bool_]:
        reached = self._shared(rng, videos) < ndtri(np.array(self.reached))
        share = np.stack([rng.beta(a, b, videos) for a, b in self.share], axis=1) * reached
        blurred = np.clip(position[:, None] + 0.1 * rng.normal(size=(len(video), 3)), 0, 1)
        return np.asarray(blurred > 1.0 - share[video], dtype=np.bool_)


TYPICAL = World()
WORLDS: dict[str, World] = {
    "typical": TYPICAL,
    "weak video effects": replace(TYPICAL, video_sd=0.3, separation_sd=0.3),
    "strong video effects": replace(TYPICAL, video_sd=1.6),
    "dominating video effects": replace(TYPICAL, video_sd=3.0, separation_sd=1.2),
    "rare positives": replace(TYPICAL, reached=(0.2, 0.15, 0.25), share=((0.9, 3.5), (0.9, 4.0), (0.9, 3.0))),
    "good models": replace(TYPICAL, separation=4.5, separation_sd=1.2),
    "a few long videos": replace(TYPICAL, log_length_sd=1.6, longest=1500),
    "heavy tails": replace(TYPICAL, video_sd=1.3, tail=3.0),
}


@dataclass(frozen=True, kw_only=True)
class Training:
    """How runs differ: one run's separation from another's, by video and by frame; `gain` is what a treatment adds.

    With `run_sd` 0 two runs of equal `gain` are checkpoints of equal true AP.
    """

    run_sd: float = 0.0
    video_sd: float = 0.4
    frame_sd: float = 0.4
    gain: float = 0.0

    def scores(self, drawn: SimulatedSet, *, rng: np.random.Generator) -> Array:
        """One run's scores, (n, 3)."""
        videos = int(drawn.videos[-1]) + 1
        scores = drawn.scores + (self.gain + self.run_sd * rng.normal()) * drawn.labels
        scores = scores + self.video_sd * rng.normal(size=(videos, 3))[drawn.videos]
        return np.asarray(scores + self.frame_sd * rng.normal(size=scores.shape), dtype=np.float64)


def exact_ap(labels: NDArray[np.bool_], scores: Array) -> Array:
    """AP per column of scores without ties."""
    values = []
    for k in range(labels.shape[1]):
        positive = labels[np.argsort(-scores[:, k]), k]
        values.append(float((np.cumsum(positive) / np.arange(1, len(positive) + 1))[positive].mean()))
    return np.array(values)


def true_ap(world: World, *, videos: int = POPULATION, seed: int = 0) -> Array:
    """AP per criterion in a population so large that its own error is a few percent of a set's."""
    population = world.draw(np.random.default_rng([seed, 99]), videos=videos)
    return exact_ap(population.labels, population.scores)


@cache
def gain_curve(
    world: World, *, run_sd: float = 0.0, videos: int = POPULATION // 2, seed: int = 0
) -> tuple[Array, Array]:
    """Gains, and the true AP of each criterion and mAP that runs of that gain reach on average, (gains, 4).

    A run's own offset moves AP along the same curve, so the mean over runs is the curve's mean under that normal.
    """
    rng = np.random.default_rng([seed, 98])
    population = world.draw(rng, videos=videos)
    scores = Training().scores(population, rng=rng)
    gains = np.array([-3, -2, -1.5, -1, -0.6, -0.3, 0, 0.3, 0.6, 1, 1.5, 2, 3, 4.5, 6, 9])
    ap = np.stack([exact_ap(population.labels, scores + gain * population.labels) for gain in gains])
    ap = np.concatenate([ap, ap.mean(axis=1, keepdims=True)], axis=1)
    if run_sd:
        nodes, weights = np.polynomial.hermite_e.hermegauss(9)
        at = gains[:, None] + run_sd * nodes
        ap = np.stack(
            [(np.interp(at, gains, ap[:, k]) * weights).sum(axis=1) / weights.sum() for k in range(4)], axis=1
        )
    return gains, ap
