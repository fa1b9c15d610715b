"""How often is a difference called where there is none? Pairs of equal treatments, on sets shaped like val.

`python -m calot.bench.null_pairs --pairs 300 --out docs/results/interval_coverage_null_pairs.json`
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.bench.coverage import SimulatedSet, World
from calot.criteria import CRITERIA
from calot.statistics.compare import Comparison, compare
from calot.statistics.outcome import ENOUGH_SEEDS
from calot.statistics.predictions import Predictions
from calot.statistics.resampling import Resampler, bootstrap_weights

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How two runs of one treatment differ: in how well a run separates a criterion, by video, and by frame."""

    run_sd: float
    video_sd: float = 0.4
    frame_sd: float = 0.4

    def run(self, drawn: SimulatedSet, *, rng: np.random.Generator, seed: int, fingerprint: str) -> Predictions:
        """Predictions of one run."""
        videos = int(drawn.videos[-1]) + 1
        scores = drawn.scores + self.run_sd * rng.normal() * drawn.labels
        scores = scores + self.video_sd * rng.normal(size=(videos, 3))[drawn.videos]
        scores = scores + self.frame_sd * rng.normal(size=scores.shape)
        columns: dict[str, Any] = {"video": drawn.videos.astype(str), "frame": np.arange(len(drawn.videos))}
        for k, name in enumerate(CRITERIA):
            columns |= {f"logit_{name}": scores[:, k], f"label_{name}": drawn.labels[:, k].astype(np.int8)}
        columns["seed"] = np.full(len(drawn.videos), seed)
        return Predictions(frame=pl.DataFrame(columns), fingerprint=fingerprint)


def called(comparison: Comparison) -> bool:
    """A difference is called: interval and permutation agree on it."""
    low, high, p = comparison.map.low, comparison.map.high, comparison.map.p
    return low is not None and high is not None and p is not None and not low <= 0 <= high and p < 0.05


def beside_zero(comparison: Comparison) -> bool:
    """The interval alone excludes 0."""
    low, high = comparison.map.low, comparison.map.high
    return low is not None and high is not None and not low <= 0 <= high


def habit(a: Predictions, b: Predictions, *, replicates: int) -> bool:
    """The usual way: one seed a side, percentile interval of a paired bootstrap over videos."""
    left, right = Resampler.of([a]), Resampler.of([b])
    weights = bootstrap_weights(len(left.videos), replicates=replicates)
    drawn = (left.ap(weights) - right.ap(weights)).mean(axis=(1, 2))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return bool(not low <= 0 <= high)


def null_rates(*, run_sd: float, videos: int, pairs: int, replicates: int, seed: int) -> dict[str, Any]:
    """Share of null pairs in which each way calls a difference, with its binomial standard error."""
    world, training = World(), Training(run_sd=run_sd)
    hits: dict[str, list[bool]] = {}
    spread = []
    for pair in range(pairs):
        rng = np.random.default_rng([seed, videos, pair])
        drawn = world.draw(rng, videos=videos)
        a, b = (
            [training.run(drawn, rng=rng, seed=s, fingerprint=name) for s in range(ENOUGH_SEEDS)] for name in ("a", "b")
        )
        one = compare(a[0], b[0], replicates=replicates, seed=pair)
        five = compare(a, b, replicates=replicates, seed=pair)
        spread.append(five.a.deviation or 0.0)
        found = {
            "one seed a side, percentile bootstrap over videos": habit(a[0], b[0], replicates=replicates),
            "one seed a side, interval": beside_zero(one),
            "one seed a side, verdict": called(one),
            "five seeds a side, interval": beside_zero(five),
            "five seeds a side, verdict": called(five),
        }
        for name, hit in found.items():
            hits.setdefault(name, []).append(hit)
    rates = {name: float(np.mean(values)) for name, values in hits.items()}
    return {
        "run_sd": run_sd,
        "videos": videos,
        "seed_deviation_points": round(100 * float(np.mean(spread)), 2),
        "rates": {name: round(rate, 4) for name, rate in rates.items()},
        "standard_errors": {name: round(float(np.sqrt(r * (1 - r) / pairs)), 4) for name, r in rates.items()},
    }


def _main() -> None:
    parser = argparse.ArgumentParser(description="how often a difference is called between equal treatments")
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--videos", type=int, default=41)
    parser.add_argument("--run-sd", type=float, nargs="+", default=[0.0, 0.13])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = []
    for run_sd in given.run_sd:
        row = null_rates(
            run_sd=run_sd, videos=given.videos, pairs=given.pairs, replicates=given.replicates, seed=given.seed
        )
        rows.append(row)
        print(f"seeds vary by {row['seed_deviation_points']} points, {given.videos} videos, {given.pairs} null pairs")
        for name, rate in row["rates"].items():
            print(f"  {name:52s} {rate:.1%} ± {row['standard_errors'][name]:.1%}", flush=True)
    command = f"python -m calot.bench.null_pairs --pairs {given.pairs} --replicates {given.replicates}"
    table = {"command": command, "pairs": given.pairs, "seed": given.seed, "date": given.date, "rows": rows}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _main()
