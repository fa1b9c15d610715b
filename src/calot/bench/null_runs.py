"""Runs of one experiment against themselves: what a comparison of two equal treatments says on a data set.

`python -m calot.bench.null_runs RUN RUN ... [--splits N] [--seed N] [--json]`: the runs differ only in their seed; they
are cut into two sides of five in many ways, and each cut is compared as two treatments are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from calot.errors import CalotError
from calot.statistics.compare import Comparison, compare
from calot.statistics.predictions import Predictions, load_predictions

SIDE = 5


@dataclass(frozen=True, kw_only=True)
class NullPairs:
    """Over all cuts: how many were called different, the spread of their differences, what the page would print.

    Differences and minima are in mAP points. `deviation` is the root mean square difference: its truth is 0.
    """

    runs: int
    cuts: int
    videos: int
    called: int
    deviation: float
    largest: float
    half_width: float
    minimum_detectable: float | None
    least_detectable: float | None
    most_detectable: float | None
    standard_error: float
    video_error: float
    seed_error: float
    mean_map: float
    seed_deviation: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        minimum = "undefined: no planted difference reaches 80 % power"
        if self.minimum_detectable is not None:
            minimum = f"{self.minimum_detectable:.1f} ({self.least_detectable:.1f} to {self.most_detectable:.1f})"
        return "\n".join(
            [
                f"{self.runs} runs of one experiment on {self.videos} videos: mAP {self.mean_map:.1f}, "
                f"standard deviation over seeds {self.seed_deviation:.1f}",
                f"{self.cuts} cuts into {SIDE} against {SIDE}: {self.called} called different; differences "
                f"{self.deviation:.2f} (root mean square), {self.largest:.2f} at most",
                f"standard error {self.standard_error:.2f} (videos {self.video_error:.2f}, seeds {self.seed_error:.2f}"
                f"), 95 % interval +- {self.half_width:.1f}",
                f"minimum detectable difference at 80 % power: {minimum}",
            ]
        )


def cuts_of(count: int, *, splits: int, seed: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Up to `splits` ways to take two sides of five from so many runs, each once, whichever side is named first."""
    if count < 2 * SIDE:
        raise CalotError(f"{count} runs: two sides of {SIDE} need {2 * SIDE}; train more seeds (calot train --seeds)")
    rng, found = np.random.default_rng(seed), dict[tuple[tuple[int, ...], tuple[int, ...]], None]()
    if count == 2 * SIDE:
        firsts = combinations(range(1, count), SIDE - 1)
        every = [((0, *rest), tuple(i for i in range(1, count) if i not in rest)) for rest in firsts]
        places = rng.permutation(len(every))[:splits]
        return [every[i] for i in sorted(places.tolist())]
    while len(found) < splits:
        drawn = rng.permutation(count)[: 2 * SIDE].tolist()
        sides = sorted((tuple(sorted(drawn[:SIDE])), tuple(sorted(drawn[SIDE:]))))
        found[sides[0], sides[1]] = None
    return list(found)


def null_pairs(tables: Sequence[Predictions], *, splits: int, seed: int) -> NullPairs:
    """Compare the cuts. Raises CalotError where the tables are not runs of one experiment with different seeds."""
    treatments = {table.fingerprint for table in tables}
    if len(treatments) > 1:
        raise CalotError(f"{len(treatments)} treatments among the runs: all must be of one experiment, seeds apart")
    made = [
        compare([tables[i] for i in a], [tables[i] for i in b])
        for a, b in cuts_of(len(tables), splits=splits, seed=seed)
    ]
    return _counted(made, runs=len(tables))


def _counted(made: Sequence[Comparison], *, runs: int) -> NullPairs:
    totals = [item.map for item in made]
    values = 100 * np.array([t.value for t in totals], dtype=np.float64)
    errors = 100 * np.array([(t.standard_error, t.video_error, t.seed_error) for t in totals], dtype=np.float64)
    bounds = 100 * np.array([(t.low, t.high) for t in totals], dtype=np.float64)
    known = [100 * t.minimum_detectable for t in totals if t.minimum_detectable is not None]
    sides = [side for item in made for side in (item.a, item.b)]
    scores = {seed: value for side in sides for seed, value in zip(side.seeds, side.map, strict=True)}
    maps = 100 * np.array(list(scores.values()), dtype=np.float64)
    return NullPairs(
        runs=runs,
        cuts=len(made),
        videos=made[0].videos,
        called=int(((bounds[:, 0] > 0) | (bounds[:, 1] < 0)).sum()),
        deviation=float(np.sqrt((values**2).mean())),
        largest=float(np.abs(values).max()),
        half_width=float((bounds[:, 1] - bounds[:, 0]).mean() / 2),
        minimum_detectable=float(np.mean(known)) if known else None,
        least_detectable=min(known, default=None),
        most_detectable=max(known, default=None),
        standard_error=float(errors[:, 0].mean()),
        video_error=float(errors[:, 1].mean()),
        seed_error=float(errors[:, 2].mean()),
        mean_map=float(maps.mean()),
        seed_deviation=float(maps.std(ddof=1)),
    )


def _main(arguments: Sequence[str] | None = None) -> None:
    """Print what comparisons of equal treatments say."""
    parser = argparse.ArgumentParser(prog="calot.bench.null_runs", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="Runs of one experiment, ten seeds or more.")
    parser.add_argument("--split", default="val")
    parser.add_argument("--splits", type=int, default=20, help="How many cuts to compare.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    tables = [load_predictions(run / "predictions" / f"{given.split}.parquet").with_labels() for run in given.runs]
    found = null_pairs(tables, splits=given.splits, seed=given.seed)
    print(json.dumps(found.to_dict(), indent=1) if given.json else found)


if __name__ == "__main__":
    _main()
