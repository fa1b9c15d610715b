"""How often does a prediction set hold the label of a random frame of a new video, and how often would sets say so that
were calibrated on frames as if each were an operation?

`python -m calot.bench.conformal --sets 1000` draws calibration videos and new videos in every simulated world and
writes `docs/results/conformal_coverage.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calot.bench.simulation import Simulation
from calot.bench.worlds import SimulatedSet, World
from calot.statistics.frame_sums import VideoUnits
from calot.statistics.prediction_sets import LEVEL, guaranteed, label_scores, set_limit

SIZES = (10, 20, 41, 120)
NEW, BLOCK = 30, 100
#: Taken off simulated scores, so that most negatives lie below 0 as a model's logits do.
SHIFT = 1.5


@dataclass(frozen=True, kw_only=True)
class MeasuredSets:
    """Over many sets of calibration videos: mean coverage of new videos with its standard error, its spread from set to
    set, the share abstained, and the coverage that limits over frames have, for comparison."""

    coverage: float
    standard_error: float
    spread: float
    abstained: float
    over_frames: float
    sets: int


def measure_sets(world: World, *, videos: int, sets: int, level: float = LEVEL, seed: int = 1) -> MeasuredSets:
    """Coverage in one world: limits from `videos` calibration videos, held to `NEW` new ones, one criterion per set."""
    found: list[tuple[float, float, float]] = []
    while len(found) < sets:
        count = min(BLOCK, sets - len(found))
        rng = np.random.default_rng([seed, videos, len(found)])
        found += _block(world.draw(rng, videos=count * (videos + NEW)), videos=videos, count=count, level=level)
    covered, abstained, frames = np.array(found).T
    return MeasuredSets(
        coverage=float(covered.mean()),
        standard_error=float(covered.std(ddof=1) / np.sqrt(sets)),
        spread=float(covered.std(ddof=1)),
        abstained=float(abstained.mean()),
        over_frames=float(frames.mean()),
        sets=sets,
    )


def _block(drawn: SimulatedSet, *, videos: int, count: int, level: float) -> list[tuple[float, float, float]]:
    """Many operations, cut into `count` sets. Of each: mean share of a new video's frames that their sets cover, that
    have both labels, and that sets with limits over frames cover."""
    edges = np.searchsorted(drawn.videos, np.arange(count + 1) * (videos + NEW))
    found = []
    for number in range(count):
        here = slice(int(edges[number]), int(edges[number + 1]))
        column, video = number % drawn.labels.shape[1], drawn.videos[here] - number * (videos + NEW)
        logits = drawn.scores[here, column] - SHIFT
        scores = label_scores(drawn.labels[here, column], logits=logits)
        known = int(np.searchsorted(video, videos))
        limit = set_limit(scores[:known], units=VideoUnits(index=video[:known], count=videos), level=level)
        over_frames = float(np.quantile(scores[:known], level, method="inverted_cdf"))
        new = VideoUnits(index=video[known:] - videos, count=NEW)
        share = [
            float((new.sums(which) / new.sums(np.ones(len(new.index)))).mean())
            for which in (scores[known:] <= limit, np.abs(logits[known:]) <= limit, scores[known:] <= over_frames)
        ]
        found.append((share[0], share[1], share[2]))
    return found


def conformal_page(found: dict[tuple[str, int], MeasuredSets], *, command: str, date: str) -> str:
    """The measured table as Markdown."""
    lines = [
        "# Coverage of prediction sets",
        "",
        f"`{command}`, {date}. Limits at a nominal {LEVEL:.0%} from calibration videos of a simulated world",
        f"(those of [interval coverage](interval_coverage.md)), held to {NEW} new videos. *Coverage*: share of a new",
        "video's frames whose set has their label, mean over videos, with its standard error. *From set to set*: its",
        "standard deviation over sets of calibration videos. *Frames*: what limits calibrated on frames, as if each",
        "were exchangeable, cover. *Guaranteed*: what exchangeable videos alone guarantee (docs/statistics.md).",
        "",
        "| world | videos | guaranteed | coverage | from set to set | abstained | frames |",
        "|---|---|---|---|---|---|---|",
    ]
    for (world, videos), item in found.items():
        lines.append(
            f"| {world} | {videos} | {guaranteed(LEVEL, videos=videos):.1%} | {item.coverage:.1%} ± "
            f"{item.standard_error:.1%} | {item.spread:.1%} | {item.abstained:.1%} | {item.over_frames:.1%} |"
        )
    return "\n".join(lines) + "\n"


SIMULATION = Simulation(
    module="conformal",
    about="measure the coverage of prediction sets over videos",
    sizes=SIZES,
    measure=measure_sets,
    page=conformal_page,
    said=lambda item: f"coverage {item.coverage:.1%}",
    out="conformal_coverage.md",
)

if __name__ == "__main__":
    SIMULATION.main()
