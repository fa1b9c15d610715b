"""How often does a 95 % interval contain the truth, how often is a difference called where there is none, and how
often is one of the printed minimum detectable size called?

`python -m calot.bench.coverage --sets 1000` measures it in every world and size, in blocks of sets that are saved to
`docs/results/interval_coverage.json` as they finish: a stopped run continues where it was. It then writes what is
printed beside intervals (`calot/statistics/interval_coverage.json`) and the page `docs/results/interval_coverage.md`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from calot.bench.coverage_report import markdown, shipped_table
from calot.bench.null_pairs import permutation_block, power_block, treatment_block
from calot.bench.tallies import Tally, count_interval, merge
from calot.bench.worlds import WORLDS, Training, World, gain_curve
from calot.statistics.intervals import DEFAULT_METHOD, interval
from calot.statistics.paired_error import ScoredSide, paired_error
from calot.writing import write_text

#: Videos per set, and the true difference of mAP that its pairs have: about what such a set can detect.
SIZES = {10: 0.20, 15: 0.18, 20: 0.17, 41: 0.12, 80: 0.09, 120: 0.075}
NULL_SIZES = (10, 20, 41)
POWER_SIZES = (20, 41, 80)
BLOCK = 50
ROOT = Path(__file__).parents[3]
Block = Callable[..., Tally]


def gain_of(world: World, *, videos: int) -> float:
    """The gain whose true difference of mAP is the size's, at most half of what is left to 1."""
    gains, curve = gain_curve(world)
    start = float(np.interp(0.0, gains, curve[:, 3]))
    return float(np.interp(start + min(SIZES[videos], (1 - start) / 2), curve[:, 3], gains))


def interval_block(world: World, *, videos: int, first: int, sets: int, seed: int) -> Tally:
    """Single intervals of one run, and paired ones of two equal runs and of one that is better."""
    gains, curve = gain_curve(world)
    gain, tally = gain_of(world, videos=videos), Tally()
    start, better = (np.array([np.interp(at, gains, curve[:, k]) for k in range(4)]) for at in (0.0, gain))
    for number in range(first, first + sets):
        rng = np.random.default_rng([seed, videos, number])
        drawn = world.draw(rng, videos=videos)
        held = drawn.positive_videos
        if min(held) < 2:
            continue
        sides = [
            ScoredSide(
                labels=drawn.labels,
                scores=(Training(gain=added).scores(drawn, rng=rng),),
                units=drawn.videos,
                count=videos,
            ).left_out()
            for added in (0.0, 0.0, gain)
        ]
        tally_set(tally, sides=sides, held=(*held, min(held)), start=start, better=better)
    return tally


def tally_set(
    tally: Tally, *, sides: list[np.ndarray], held: tuple[int, ...], start: np.ndarray, better: np.ndarray
) -> None:
    """Count one set's intervals of the three criteria and of mAP (last)."""
    a, b, c = sides
    for k, positive_videos in enumerate(held):
        name = "map" if k == 3 else "ap"
        found = interval(
            DEFAULT_METHOD, value=float(a[0, 0, k]), left_out=a[1:, 0, k], drawn=None, positive_videos=positive_videos
        )
        if found.low is not None and found.high is not None:
            count_interval(tally, name, positive_videos, low=found.low, high=found.high, truth=float(start[k]))
        for side, truth, quantity in ((a, 0.0, "null"), (c, float(better[k] - start[k]), "difference")):
            error = paired_error(side[:, :, k], b[:, :, k], seeds_vary=False)
            value = float(side[0, 0, k] - b[0, 0, k])
            low, high = value - error.half, value + error.half
            count_interval(tally, f"{quantity}_{name}", positive_videos, low=low, high=high, truth=truth)


def cells() -> dict[str, tuple[Block, World, int]]:
    """Every cell by name, in the order in which a block of each is measured."""
    found: dict[str, tuple[Block, World, int]] = {}
    for part, block, sizes in (
        ("intervals", interval_block, tuple(SIZES)),
        ("permutation", permutation_block, NULL_SIZES),
        ("treatment", treatment_block, NULL_SIZES),
        ("power", power_block, POWER_SIZES),
    ):
        for name, world in WORLDS.items():
            found |= {f"{part} | {name} | {videos}": (block, world, videos) for videos in sizes}
    return found


def measure(record: dict[str, Any], *, sets: int, seed: int, only: str = "", save: Callable[[], None]) -> None:
    """Add blocks, one to each cell in turn, until every cell counts `sets` sets."""
    todo = {key: cell for key, cell in cells().items() if only in key}
    for target in range(BLOCK, sets + BLOCK, BLOCK):
        for key, (block, world, videos) in todo.items():
            cell = record["cells"].setdefault(key, {"sets": 0, "tally": {}})
            missing = min(target, sets) - cell["sets"]
            if missing > 0:
                merge(cell["tally"], block(world, videos=videos, first=cell["sets"], sets=missing, seed=seed))
                cell["sets"] += missing
        save()
        print(f"{min(target, sets)} sets per cell after {time.process_time():.0f} s of CPU", flush=True)


def _main() -> None:
    parser = argparse.ArgumentParser(description="measure the coverage of intervals over videos; a stopped run resumes")
    parser.add_argument("--sets", type=int, default=1000, help="simulated sets per world and size")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="measure only cells whose name contains this, such as 'power |'")
    parser.add_argument("--again", action="store_true", help="forget what such cells have counted, and begin again")
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/interval_coverage.json")
    parser.add_argument("--shipped", type=Path, default=ROOT / "src/calot/statistics/interval_coverage.json")
    given = parser.parse_args()
    record = json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else {}
    if record.get("seed") != given.seed:
        record = {"seed": given.seed, "cells": {}}
    if given.again:
        record["cells"] = {key: cell for key, cell in record["cells"].items() if given.only not in key}
    command = f"python -m calot.bench.coverage --sets {given.sets} --seed {given.seed}"
    record |= {"command": command, "date": given.date}

    def save() -> None:
        write_text(given.out, json.dumps(record) + "\n")
        write_text(given.shipped, json.dumps(shipped_table(record), indent=1) + "\n")
        write_text(given.out.with_suffix(".md"), markdown(record))

    measure(record, sets=given.sets, seed=given.seed, only=given.only, save=save)
    save()
    print(f"wrote {given.out}, {given.out.with_suffix('.md')} and {given.shipped}")


if __name__ == "__main__":
    _main()
