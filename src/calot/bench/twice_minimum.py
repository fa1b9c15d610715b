"""A true difference of once, and of twice, the minimum that a comparison prints: how often is it found?

`python -m calot.bench.twice_minimum --sets 300` draws sets of every simulated world and writes
`docs/results/twice_minimum.md`. Each pair of equal treatments prints its own minimum; other operations of as many
videos are then compared under treatments whose true mAPs differ by it, and by twice as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from calot.bench.null_pairs import RUN_SD, SEEDS
from calot.bench.simulation import Simulation
from calot.bench.worlds import SimulatedSet, Training, World, gain_curve
from calot.statistics.detectable import detectable_differences
from calot.statistics.paired_error import ScoredSide, paired_error

Array = NDArray[np.float64]
SIZES = (41,)
TIMES = (1, 2)
GOAL = 0.90
MOST_GAIN = 6.0


@dataclass(frozen=True, kw_only=True)
class FoundTwice:
    """Of `sets` pairs: mean printed minimum of mAP (a share), how many printed none, and by the multiple of it that was
    planted, how many were planted and how many of these found (an interval on the right side of 0)."""

    sets: int
    printed: float
    none: int
    planted: dict[int, int]
    found: dict[int, int]

    def rate(self, times: int) -> float | None:
        """Share found; None where no multiple could be planted."""
        return self.found[times] / self.planted[times] if self.planted[times] else None


def found_twice(world: World, *, videos: int, sets: int, seed: int = 1) -> FoundTwice:
    """Five seeds per side, as a comparison about the treatment has them."""
    minima, none, number = list[float](), 0, -1
    planted, found = dict.fromkeys(TIMES, 0), dict.fromkeys(TIMES, 0)
    while len(minima) + none < sets:
        number += 1
        rng = np.random.default_rng([seed, videos, number, 6])
        drawn = world.draw(rng, videos=videos)
        if min(drawn.positive_videos) < 2:
            continue
        sides = [_side(drawn, rng=rng, gain=0.0, videos=videos) for _ in "ab"]
        smallest = detectable_differences(sides[0], sides[1], seeds_vary=True)[-1]
        if smallest is None:
            none += 1
            continue
        minima.append(smallest)
        for times in TIMES:
            gain = half_gain_over_seeds(world, difference=times * smallest)
            if gain is not None:
                planted[times] += 1
                found[times] += _is_found(world, rng=rng, videos=videos, gain=gain)
    mean = float(np.mean(minima)) if minima else float("nan")
    return FoundTwice(sets=sets, printed=mean, none=none, planted=planted, found=found)


def half_gain_over_seeds(world: World, *, difference: float) -> float | None:
    """The gain of one side, and loss of the other, whose mean true mAPs differ so much; None beyond any such gain."""
    gains, curve = gain_curve(world, run_sd=RUN_SD)

    def apart(half: float) -> float:
        return float(np.interp(half, gains, curve[:, 3]) - np.interp(-half, gains, curve[:, 3]))

    if apart(MOST_GAIN) < difference:
        return None
    return float(brentq(lambda half: apart(half) - difference, 0.0, MOST_GAIN, xtol=1e-4))


def _is_found(world: World, *, rng: np.random.Generator, videos: int, gain: float) -> bool:
    drawn = world.draw(rng, videos=videos)
    while min(drawn.positive_videos) < 2:
        drawn = world.draw(rng, videos=videos)
    a, b = (_side(drawn, rng=rng, gain=way * gain, videos=videos).left_out()[:, :, -1] for way in (1, -1))
    error = paired_error(a, b, seeds_vary=True)
    return bool(a[0].mean() - b[0].mean() > error.half)


def _side(drawn: SimulatedSet, *, rng: np.random.Generator, gain: float, videos: int) -> ScoredSide:
    scores = tuple(Training(run_sd=RUN_SD, gain=gain).scores(drawn, rng=rng) for _ in range(SEEDS))
    return ScoredSide(labels=drawn.labels, scores=scores, units=drawn.videos, count=videos)


def twice_page(found: dict[tuple[str, int], FoundTwice], *, command: str, date: str) -> str:
    """The measured table as Markdown, with the share over all and the worst cell."""
    lines = [
        "# Differences of once and twice the printed minimum",
        "",
        f"`{command}`, {date}. {SEEDS} seeds per side. A pair of equal treatments prints the minimum detectable",
        "difference of mAP; other operations, as many, are then compared under treatments whose true mAPs differ by",
        "so much, and by twice as much. *Found*: the 95 % interval lies on the right side of 0. *Planted*: for how",
        "many pairs so large a difference exists at all in that world (of good models mAP cannot rise much).",
        "",
        "| world | videos | printed, mean | none printed | planted, once | found | planted, twice | found |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (world, videos), item in found.items():
        parts = " | ".join(f"{item.planted[t]} | {_share(item.found[t], of=item.planted[t])}" for t in TIMES)
        lines.append(f"| {world} | {videos} | {100 * item.printed:.1f} points | {item.none} | {parts} |")
    lines += ["", *(_over_all(found, times=times) for times in TIMES)]
    return "\n".join(lines) + "\n"


def _over_all(found: dict[tuple[str, int], FoundTwice], *, times: int) -> str:
    cells = {cell: rate for cell, item in found.items() if (rate := item.rate(times)) is not None}
    hits, of = (sum(getattr(item, part)[times] for item in found.values()) for part in ("found", "planted"))
    (world, videos), worst = min(cells.items(), key=lambda cell: cell[1])
    below = sum(rate < GOAL for rate in cells.values())
    word = {1: "Once", 2: "Twice"}[times]
    return (
        f"- {word} the printed minimum: found in {_share(hits, of=of)} of {of:,}; worst {worst:.1%} ({world}, {videos} "
        f"videos); below {GOAL:.0%} in {below} of {len(cells)} cells."
    )


def _share(part: int, *, of: int) -> str:
    return f"{part / of:.1%}" if of else "none"


SIMULATION = Simulation(
    module="twice_minimum",
    about="how often a difference of once and twice the printed minimum is found",
    sizes=SIZES,
    measure=found_twice,
    page=twice_page,
    said=lambda item: (
        f"once {_share(item.found[1], of=item.planted[1])}, twice {_share(item.found[2], of=item.planted[2])}"
    ),
    out="twice_minimum.md",
)

if __name__ == "__main__":
    SIMULATION.main()
