"""Two treatments, each at the best of as many settings: one setting for each decides nothing.

Nine LoRA variants fall within 1 to 2 % once the learning rate of each is tuned (arXiv 2602.04998). Each seed chooses
its own setting by its validation mAP, so that runs stay independent, and both sides are flattered alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from calot.errors import CalotError
from calot.statistics.predictions import Predictions
from calot.statistics.sweep import SettingScore, deciding_map

#: With fewer settings a side counts as not tuned.
LEAST_SETTINGS = 5


@dataclass(frozen=True, kw_only=True)
class TunedSide:
    """One treatment's settings in the order given, their mAP on val by seed, and which setting each seed chose.

    `at_an_end`: how many seeds chose the first or the last setting; a better one may then lie beyond.
    """

    name: str
    seeds: tuple[int, ...]
    curve: tuple[SettingScore, ...]
    chosen: tuple[str, ...]

    @property
    def at_an_end(self) -> int:
        ends = {self.curve[0].setting, self.curve[-1].setting}
        return sum(setting in ends for setting in self.chosen)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"settings": len(self.curve), "at_an_end": self.at_an_end}

    def lines(self) -> list[str]:
        """For people: the curve, then what was chosen."""
        wide = max(len(score.setting) for score in self.curve)
        shown = [
            f"  {score.setting:{wide}}  mAP {100 * score.mean_map:5.2f}, chosen by {self.chosen.count(score.setting)}"
            for score in self.curve
        ]
        ends = f"{self.at_an_end} of {len(self.seeds)} seeds chose an end of the range"
        warned = f"{ends}: a better setting may lie beyond"
        return [f"{self.name}, val mAP by setting:", *shown, *([f"  {warned}"] if self.at_an_end else [])]


def tuned_side(tables: Mapping[str, Mapping[int, Predictions]], *, name: str) -> TunedSide:
    """Each seed's choice among the settings, the first of equals; `tables` are val's, by setting and seed.

    Raises CalotError where settings have other seeds, or val has no positive label.
    """
    seeds = tuple(sorted(next(iter(tables.values()))))
    for setting, runs in tables.items():
        if tuple(sorted(runs)) != seeds:
            raise CalotError(
                f"{name}: setting {setting} has the seeds {sorted(runs)} where another has {list(seeds)}: give every "
                "setting the same ones (calot train --sweep ... --seeds ... --resume)"
            )
    curve = []
    for setting, runs in tables.items():
        known = tuple(deciding_map(runs[seed], name=f"{name} {setting} seed {seed}") for seed in seeds)
        curve.append(SettingScore(setting=setting, map_by_seed=known, mean_map=sum(known) / len(known)))
    chosen = []
    for place in range(len(seeds)):
        values = [score.map_by_seed[place] for score in curve]
        chosen.append(curve[values.index(max(values))].setting)
    return TunedSide(name=name, seeds=seeds, curve=tuple(curve), chosen=tuple(chosen))


def require_equal_tuning(sides: Sequence[TunedSide]) -> None:
    """Raises CalotError where a side was chosen among fewer settings than another, or than `LEAST_SETTINGS`."""
    counts = {side.name: len(side.curve) for side in sides}
    said = ", ".join(f"{name} {count}" for name, count in counts.items())
    if len(set(counts.values())) > 1:
        raise CalotError(f"compare --tuned: settings {said}: give each side equally many, or the larger choice wins")
    if min(counts.values()) < LEAST_SETTINGS:
        raise CalotError(
            f"compare --tuned: settings {said}: at least {LEAST_SETTINGS} a side, such as "
            "--sweep train.lr=1e-4,3e-4,1e-3,3e-3,1e-2"
        )
