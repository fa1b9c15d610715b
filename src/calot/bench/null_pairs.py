"""Pairs of equal treatments and pairs that differ by the printed minimum: what five seeds, and a permutation, call."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import brentq

from calot.bench.tallies import Tally, count_interval
from calot.bench.worlds import SimulatedSet, Training, World, exact_ap, gain_curve
from calot.criteria import CRITERIA
from calot.statistics.detectable import detectable_differences
from calot.statistics.paired_error import ScoredSide, paired_error
from calot.statistics.permutation import swap_videos
from calot.statistics.predictions import Predictions

Array = NDArray[np.float64]
SEEDS = 5
RUN_SD = 0.2  # how much a run's separation varies between seeds: about 3 to 4 points of mAP in the typical world
SWAPS = 199
NOISIER = Training(video_sd=1.0, frame_sd=0.8)
PILOT = 100  # what is printed varies by half of its mean from pair to pair


def predictions(drawn: SimulatedSet, scores: Array, *, seed: int = 0, fingerprint: str = "simulated") -> Predictions:
    """A table of one run's scores."""
    columns: dict[str, Any] = {"video": drawn.videos.astype(str), "frame": np.arange(len(drawn.videos))}
    for k, name in enumerate(CRITERIA):
        columns |= {f"logit_{name}": scores[:, k], f"label_{name}": drawn.labels[:, k].astype(np.int8)}
    columns["seed"] = np.full(len(drawn.videos), seed)
    return Predictions(frame=pl.DataFrame(columns), fingerprint=fingerprint)


def treatment_block(world: World, *, videos: int, first: int, sets: int, seed: int) -> Tally:
    """Five seeds per side of one treatment."""
    tally = Tally()
    for number in range(first, first + sets):
        rng = np.random.default_rng([seed, videos, number, 2])
        drawn = world.draw(rng, videos=videos)
        held = drawn.positive_videos
        if min(held) < 2:
            continue
        runs = [[Training(run_sd=RUN_SD).scores(drawn, rng=rng) for _ in range(SEEDS)] for _ in "ab"]
        a, b = (
            ScoredSide(labels=drawn.labels, scores=tuple(side), units=drawn.videos, count=videos).left_out()
            for side in runs
        )
        for k, positive_videos in enumerate((*held, min(held))):
            error = paired_error(a[:, :, k], b[:, :, k], seeds_vary=True)
            value = float(a[0, :, k].mean() - b[0, :, k].mean())
            name = "treatment_map" if k == 3 else "treatment_ap"
            count_interval(tally, name, positive_videos, low=value - error.half, high=value + error.half, truth=0.0)
    return tally


def permutation_block(world: World, *, videos: int, first: int, sets: int, seed: int) -> Tally:
    """The permutation test between checkpoints of equal true mAP.

    `swap_like`: two runs that vary alike; `swap_unlike`: one leans more by video and separates more, of equal mAP.
    """
    tally = Tally()
    unlike = equal_gain(world)
    for number in range(first, first + sets):
        rng = np.random.default_rng([seed, videos, number, 5])
        drawn = world.draw(rng, videos=videos)
        held = drawn.positive_videos
        if min(held) < 2:
            continue
        base, like = (Training().scores(drawn, rng=rng) for _ in "ab")
        other = Training(video_sd=NOISIER.video_sd, frame_sd=NOISIER.frame_sd, gain=unlike).scores(drawn, rng=rng)
        for name, scores in (("swap_like", like), ("swap_unlike", other)):
            tables = [predictions(drawn, each) for each in (base, scores)]
            p = float(swap_videos(tables[:1], tables[1:], replicates=SWAPS, seed=number)[3])
            count_interval(tally, name, min(held), low=0.0, high=1.0, truth=-1.0 if p < 0.05 else 0.5)
    return tally


@cache
def equal_gain(world: World, *, videos: int = 4000) -> float:
    """The gain at which a run that varies more has the mAP of one that varies less, in a large population."""
    rng = np.random.default_rng([0, 97])
    population = world.draw(rng, videos=videos)
    plain, noisy = Training().scores(population, rng=rng), NOISIER.scores(population, rng=rng)
    goal = exact_ap(population.labels, plain).mean()
    return float(
        brentq(lambda g: exact_ap(population.labels, noisy + g * population.labels).mean() - goal, -1.0, 4.0, xtol=1e-3)
    )


def power_block(world: World, *, videos: int, first: int, sets: int, seed: int) -> Tally:
    """Share of pairs called whose true difference of mAP is the mean of what `PILOT` equal pairs print as detectable.

    In `power`, a truth "below" is a difference called correctly, one "above" a difference called the wrong way;
    `detectable` sums the printed minimum in hundredths of a point.
    """
    printed = printed_minimum(world, videos=videos, seed=seed)
    half = half_gain(world, difference=printed)
    tally: Tally = {"detectable": {"2": [PILOT, 0, 0, round(1e4 * printed) * PILOT]}} if first == 0 else {}
    for number in range(first, first + sets):
        rng = np.random.default_rng([seed, videos, number, 3])
        drawn = world.draw(rng, videos=videos)
        if min(drawn.positive_videos) < 2:
            continue
        a, b = (
            ScoredSide(
                labels=drawn.labels,
                scores=(Training(gain=gain).scores(drawn, rng=rng),),
                units=drawn.videos,
                count=videos,
            ).left_out()
            for gain in (half, -half)
        )
        error = paired_error(a[:, :, 3], b[:, :, 3], seeds_vary=False)
        value = float(a[0, 0, 3] - b[0, 0, 3])
        low, high = value - error.half, value + error.half
        count_interval(tally, "power", min(drawn.positive_videos), low=low, high=high, truth=0.0)
    return tally


@cache
def printed_minimum(world: World, *, videos: int, seed: int) -> float:
    """Mean of the minimum detectable difference of mAP over equal pairs."""
    found = []
    for number in range(PILOT):
        rng = np.random.default_rng([seed, videos, number, 4])
        drawn = world.draw(rng, videos=videos)
        if min(drawn.positive_videos) < 2:
            continue
        a, b = (
            ScoredSide(
                labels=drawn.labels, scores=(Training().scores(drawn, rng=rng),), units=drawn.videos, count=videos
            )
            for _ in "ab"
        )
        found.append(detectable_differences(a, b, seeds_vary=False)[3])
    return float(np.mean([value for value in found if value is not None]))


def half_gain(world: World, *, difference: float) -> float:
    """The gain of one side, and loss of the other, whose true mAPs differ by `difference`."""
    gains, curve = gain_curve(world)

    def apart(half: float) -> float:
        return float(np.interp(half, gains, curve[:, 3]) - np.interp(-half, gains, curve[:, 3]))

    return float(brentq(lambda half: apart(half) - difference, 0.0, 3.0, xtol=1e-4))
