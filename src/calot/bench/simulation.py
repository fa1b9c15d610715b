"""What simulations over worlds and sizes share: their command line, and the page that they write."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calot.bench.worlds import WORLDS
from calot.writing import write_text

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """`python -m calot.bench.<module>`: `measure(world, videos=, sets=, seed=)` in every world at every size, and
    `page(found, command=, date=)` of what it found by world's name and size; `said` is a finding in a few words."""

    module: str
    about: str
    sizes: tuple[int, ...]
    measure: Callable[..., Any]
    page: Callable[..., str]
    said: Callable[[Any], str]
    out: str

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """Measure, and write the page."""
        parser = argparse.ArgumentParser(prog=f"calot.bench.{self.module}", description=self.about)
        parser.add_argument("--sets", type=int, default=1000, help="simulated sets per world and size")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--date", default=time.strftime("%Y-%m-%d"))
        parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / self.out)
        given = parser.parse_args(arguments)
        found = {}
        for name, world in WORLDS.items():
            for videos in self.sizes:
                found[name, videos] = self.measure(world, videos=videos, sets=given.sets, seed=given.seed)
                words = self.said(found[name, videos])
                print(f"{name}, {videos} videos: {words}, {time.process_time():.0f} s of CPU", flush=True)
        command = f"python -m calot.bench.{self.module} --sets {given.sets} --seed {given.seed}"
        write_text(given.out, self.page(found, command=command, date=given.date))
        print(f"wrote {given.out}")
