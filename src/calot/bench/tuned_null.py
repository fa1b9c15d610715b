"""Two equal treatments, each seed of each at the best of its settings: how often are they called different?

`python -m calot.bench.tuned_null --sets 1000` draws sets of every simulated world and writes
`docs/results/tuned_null.md`. Settings differ in truth, alike on both sides, so that there is something to choose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calot.bench.null_pairs import RUN_SD, SEEDS
from calot.bench.simulation import Simulation
from calot.bench.worlds import SimulatedSet, Training, World, exact_ap
from calot.statistics.paired_error import ScoredSide, paired_error
from calot.statistics.tuned import LEAST_SETTINGS

SIZES = (41,)
#: What each setting adds to a run's separation, in units of a label's: a curve with its top inside.
CURVE = (-0.5, -0.2, 0.0, -0.1, -0.4)


@dataclass(frozen=True, kw_only=True)
class TunedNull:
    """Of `sets` pairs of equal treatments, how many were called different; root mean square difference of mAP."""

    sets: int
    called: int
    deviation: float

    @property
    def rate(self) -> float:
        return self.called / self.sets


def tuned_null(world: World, *, videos: int, sets: int, seed: int = 1) -> TunedNull:
    """Five seeds per side, each at the best of five settings by its mAP on the same videos that then compare them."""
    called, number, values = 0, -1, list[float]()
    while len(values) < sets:
        number += 1
        rng = np.random.default_rng([seed, videos, number, 5])
        drawn = world.draw(rng, videos=videos)
        if min(drawn.positive_videos) < 2:
            continue
        a, b = (
            ScoredSide(labels=drawn.labels, scores=_side(drawn, rng=rng), units=drawn.videos, count=videos).left_out()
            for _ in "ab"
        )
        error = paired_error(a[:, :, -1], b[:, :, -1], seeds_vary=True)
        values.append(float(a[0, :, -1].mean() - b[0, :, -1].mean()))
        called += abs(values[-1]) > error.half
    return TunedNull(sets=sets, called=called, deviation=float(np.sqrt(np.mean(np.square(values)))))


def _side(drawn: SimulatedSet, *, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Each seed's scores at the setting that it chose."""
    chosen = []
    for _ in range(SEEDS):
        runs = [Training(run_sd=RUN_SD, gain=gain).scores(drawn, rng=rng) for gain in CURVE]
        chosen.append(max(runs, key=lambda scores: float(exact_ap(drawn.labels, scores).mean())))
    return tuple(chosen)


def tuned_page(found: dict[tuple[str, int], TunedNull], *, command: str, date: str) -> str:
    """The measured table as Markdown."""
    lines = [
        "# Equal treatments after tuning both",
        "",
        f"`{command}`, {date}. {SEEDS} seeds per side; each seed is at the best of {LEAST_SETTINGS} settings by its",
        "mAP on the same videos on which the sides are then compared, as `calot compare --tuned` does on val. Settings",
        "differ in truth, alike on both sides. *Called*: share of pairs whose 95 % interval leaves 0 out.",
        "",
        "| world | videos | called | difference, root mean square |",
        "|---|---|---|---|",
    ]
    for (world, videos), item in found.items():
        lines.append(f"| {world} | {videos} | {item.rate:.1%} of {item.sets} | {100 * item.deviation:.2f} points |")
    every = list(found.values())
    rate = sum(item.called for item in every) / sum(item.sets for item in every)
    lines += ["", f"Over all: {rate:.2%}; the worst cell {max(item.rate for item in every):.1%}."]
    return "\n".join(lines) + "\n"


SIMULATION = Simulation(
    module="tuned_null",
    about="how often equal treatments are called different after tuning both",
    sizes=SIZES,
    measure=tuned_null,
    page=tuned_page,
    said=lambda item: f"{item.rate:.1%} called",
    out="tuned_null.md",
)

if __name__ == "__main__":
    SIMULATION.main()
