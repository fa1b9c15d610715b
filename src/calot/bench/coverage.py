"""How often does a 95 % interval hold the truth? Simulated sets shaped like Endoscapes' val keyframes, by number of
videos.

`python -m calot.bench.coverage --sets 1000 --out docs/results/interval_coverage.json` measures it; the result is
shipped as `interval_coverage.json` beside this file and decides which method `video_intervals` takes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from calot.statistics.intervals import METHODS, Interval, interval, percentile
from calot.statistics.resampling import WeightedAP, bootstrap_weights, jackknife_weights

Array = NDArray[np.float64]
SIZES = (10, 20, 41, 80, 120)
FRAME = "frame_percentile"
POPULATION = 100_000
FRAME_REPLICATES = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedSet:
    """Frames of some operations: labels and scores (n, 3), and each frame's video 0 ... V - 1."""

    labels: NDArray[np.bool_]
    scores: Array
    videos: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class World:
    """What val looks like: video lengths, how labels cluster in videos, how scores lean by video.

    Lengths are log-normal (median 31 keyframes, clipped to 7 ... 350); about half of the videos never reach a
    criterion, the others hold it in a Beta-distributed share of their later frames. A score is separation (which varies
    by video) times label, plus a video's effect, a passage's effect (8 frames) and a frame's noise.
    """

    median_length: float = 31.0
    log_length_sd: float = 1.1
    reached: tuple[float, ...] = (0.54, 0.54, 0.49)
    share: tuple[tuple[float, float], ...] = ((0.9, 2.1), (0.9, 3.0), (0.9, 1.75))
    agreement: float = 0.5
    separation: float = 1.9
    separation_sd: float = 0.8
    video_sd: float = 0.9
    passage_sd: float = 0.5
    frame_sd: float = 0.8

    def draw(self, rng: np.random.Generator, *, videos: int) -> SimulatedSet:
        """A new set of operations."""
        length = np.clip(np.rint(np.exp(rng.normal(np.log(self.median_length), self.log_length_sd, videos))), 7, 350)
        length = length.astype(np.int64)
        video = np.repeat(np.arange(videos), length)
        first = np.repeat(np.cumsum(length) - length, length)
        position = (np.arange(len(video)) - first + 0.5) / length[video]
        passage = np.cumsum((np.arange(len(video)) - first) % 8 == 0) - 1
        labels = self._labels(rng, video=video, position=position, videos=videos)
        lean = self._shared(rng, videos) * self.video_sd
        gain = self.separation + self.separation_sd * rng.normal(size=(videos, 3))
        local = self.passage_sd * rng.normal(size=(int(passage[-1]) + 1, 3))
        scores = labels * gain[video] + lean[video] + local[passage] + self.frame_sd * rng.normal(size=labels.shape)
        return SimulatedSet(labels=labels, scores=scores, videos=video)

    def _shared(self, rng: np.random.Generator, videos: int) -> Array:
        """Standard normals a video and criterion, correlated over criteria by `agreement`."""
        common = np.sqrt(self.agreement) * rng.normal(size=(videos, 1))
        return np.asarray(common + np.sqrt(1 - self.agreement) * rng.normal(size=(videos, 3)), dtype=np.float64)

    def _labels(
        self, rng: np.random.Generator, *, video: NDArray[np.int64], position: Array, videos: int
    ) -> NDArray[np.bool_]:
        reached = self._shared(rng, videos) < ndtri(np.array(self.reached))
        share = np.stack([rng.beta(a, b, videos) for a, b in self.share], axis=1) * reached
        blurred = np.clip(position[:, None] + 0.1 * rng.normal(size=(len(video), 3)), 0, 1)
        return np.asarray(blurred > 1.0 - share[video], dtype=np.bool_)


def true_ap(world: World, *, videos: int = POPULATION, seed: int = 0) -> Array:
    """AP per criterion in a population so large that its own error is a few percent of a set's."""
    population = world.draw(np.random.default_rng([seed, 99]), videos=videos)
    values = []
    for k in range(3):
        order = np.argsort(-population.scores[:, k])
        positive = population.labels[order, k]
        values.append(float((np.cumsum(positive) / np.arange(1, len(order) + 1))[positive].mean()))
    return np.array(values)


def intervals_of(drawn: SimulatedSet, *, replicates: int, seed: int) -> dict[str, list[Interval]]:
    """Each method's intervals of the three APs and of mAP (last)."""
    videos = int(drawn.videos[-1]) + 1
    columns = range(3)
    held = [len(np.unique(drawn.videos[drawn.labels[:, k]])) for k in columns]
    by_video = _with_mean(_ap(drawn, units=drawn.videos, weights=_stack(videos, replicates=replicates, seed=seed)))
    frames = len(drawn.videos)
    weights = bootstrap_weights(frames, replicates=FRAME_REPLICATES, seed=seed)
    by_frame = _with_mean(_ap(drawn, units=np.arange(frames), weights=weights))
    held.append(min(held))
    found: dict[str, list[Interval]] = {}
    for method in METHODS:
        found[method] = [
            interval(
                method,
                value=float(by_video[0, k]),
                left_out=by_video[1 : videos + 1, k],
                drawn=by_video[videos + 1 :, k],
                positive_videos=held[k],
            )
            for k in range(4)
        ]
    found[FRAME] = [percentile(by_frame[:, k], value=float(by_video[0, k])) for k in range(4)]
    return found


def _stack(videos: int, *, replicates: int, seed: int) -> NDArray[np.int32]:
    whole = np.ones((1, videos), dtype=np.int32)
    return np.concatenate(
        [whole, jackknife_weights(videos), bootstrap_weights(videos, replicates=replicates, seed=seed)]
    )


def _ap(drawn: SimulatedSet, *, units: NDArray[np.int64], weights: NDArray[np.int32]) -> Array:
    count = weights.shape[1]
    engines = [WeightedAP.of(drawn.labels[:, k], scores=drawn.scores[:, k], units=units, count=count) for k in range(3)]
    return np.stack([engine(weights) for engine in engines], axis=1)


def _with_mean(ap: Array) -> Array:
    return np.concatenate([ap, ap.mean(axis=1, keepdims=True)], axis=1)


def measure_size(world: World, *, videos: int, sets: int, replicates: int, seed: int) -> list[dict[str, Any]]:
    """Coverage of every method at one number of videos, over its defined intervals; one dictionary a method."""
    truth = true_ap(world, seed=seed)
    truth = np.r_[truth, truth.mean()]
    hits: dict[str, list[list[float]]] = {method: [] for method in (*METHODS, FRAME)}
    widths: dict[str, list[list[float]]] = {method: [] for method in hits}
    for number in range(sets):
        drawn = world.draw(np.random.default_rng([seed, videos, number]), videos=videos)
        for method, found in intervals_of(drawn, replicates=replicates, seed=number).items():
            bounds = [(i.low, i.high) for i in found]
            hits[method].append([_hit(bounds[k], float(truth[k])) for k in range(4)])
            widths[method].append([np.nan if low is None or high is None else high - low for low, high in bounds])
    return [
        _row(method, videos=videos, hits=np.array(hits[method]), widths=np.array(widths[method])) for method in hits
    ]


def _hit(bounds: tuple[float | None, float | None], truth: float) -> float:
    low, high = bounds
    return float("nan") if low is None or high is None else float(low <= truth <= high)


def _row(method: str, *, videos: int, hits: Array, widths: Array) -> dict[str, Any]:
    """`standard_error` is that of mAP's coverage, the larger of the two; `undefined` the share of sets without an
    interval.
    """
    each, total = hits[:, :3], hits[:, 3]
    defined = ~np.isnan(total)
    per_set = np.nanmean(each[~np.isnan(each).all(axis=1)], axis=1)
    rate = float(total[defined].mean())
    return {
        "method": method,
        "videos": videos,
        "ap": round(float(np.nanmean(each)), 4),
        "map": round(rate, 4),
        "ap_standard_error": round(float(per_set.std() / np.sqrt(len(per_set))), 4),
        "standard_error": round(float(np.sqrt(max(rate * (1 - rate), 1e-6) / defined.sum())), 4),
        "ap_width": round(float(np.nanmedian(widths[:, :3])), 4),
        "map_width": round(float(np.nanmedian(widths[:, 3])), 4),
        "undefined": round(1.0 - float(defined.mean()), 4),
    }


def measure_all(
    world: World, *, sets: int, replicates: int, sizes: Sequence[int], seed: int, date: str
) -> dict[str, Any]:
    """The whole table, with what is needed to repeat it; prints as it goes."""
    truth = true_ap(world, seed=seed)
    rows: list[dict[str, Any]] = []
    start = time.perf_counter()
    print(f"true AP {truth.round(4).tolist()}, mAP {truth.mean():.4f}; {sets} sets a size, {replicates} replicates")
    for videos in sizes:
        rows += measure_size(world, videos=videos, sets=sets, replicates=replicates, seed=seed)
        for row in rows[-len(METHODS) - 1 :]:
            print(
                f"{videos:4d} videos  {row['method']:20s} AP {row['ap']:.1%} ± {row['ap_standard_error']:.1%}  "
                f"mAP {row['map']:.1%} ± {row['standard_error']:.1%}  width {row['map_width']:.3f}  "
                f"undefined {row['undefined']:.1%}"
            )
        print(f"           {time.perf_counter() - start:.0f} s", flush=True)
    command = f"python -m calot.bench.coverage --sets {sets} --replicates {replicates} --seed {seed}"
    if world != World():
        command += f" --video-sd {world.video_sd:g}"
    facts = {"command": command, "sets": sets, "replicates": replicates, "seed": seed, "date": date}
    return {**facts, "level": 0.95, "true_ap": truth.round(5).tolist(), "rows": rows}


def _main() -> None:
    """Command line of the measurement."""
    parser = argparse.ArgumentParser(description="measure the coverage of 95 % intervals over videos")
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--videos", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--video-sd", type=float, default=World.video_sd, help="how much scores lean by video")
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    world = World(video_sd=given.video_sd)
    table = measure_all(
        world, sets=given.sets, replicates=given.replicates, sizes=given.videos, seed=given.seed, date=given.date
    )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {given.out}; copy it to src/calot/statistics/interval_coverage.json to make it the one printed")


if __name__ == "__main__":
    _main()
