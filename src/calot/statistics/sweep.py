"""A choice among settings, each run with the same seeds: by mean validation mAP, and how much that choice flatters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from calot.errors import CalotError
from calot.statistics.metrics import mean_ap
from calot.statistics.optimism import Surplus, surplus_of_choice
from calot.statistics.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class SettingScore:
    """A setting's mAP (a share) on val by seed, and their mean."""

    setting: str
    map_by_seed: tuple[float, ...]
    mean_map: float


@dataclass(frozen=True, kw_only=True)
class SweepChoice:
    """All settings in the order in which they were asked for, the best of them, and the optimism of having chosen."""

    settings: tuple[SettingScore, ...]
    chosen: str
    optimism: Surplus

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"candidates": len(self.settings)}

    def lines(self) -> list[str]:
        """For people: a line per setting, then the choice."""
        wide = max(len(s.setting) for s in self.settings)
        shown = [
            f"{s.setting:{wide}}  mAP {100 * s.mean_map:.2f}"
            + (f" ({', '.join(f'{100 * m:.2f}' for m in s.map_by_seed)})" if len(s.map_by_seed) > 1 else "")
            for s in self.settings
        ]
        surplus = self.optimism
        flattered = (
            f"not estimated: {surplus.reason}" if surplus.value is None else f"about {100 * surplus.value:.1f} points"
        )
        return [
            *shown,
            f"Chosen on val among {len(self.settings)} settings: {self.chosen}. "
            f"How much choosing flatters its val mAP: {flattered}. Only a split that chose nothing judges it.",
        ]


def deciding_map(table: Predictions, *, name: str) -> float:
    """The number by which settings are chosen: the mAP (a share) over the criteria that have a positive label.

    Raises CalotError where none has one.
    """
    found = mean_ap(table.labels, table.logits).over_defined
    if found is None:
        raise CalotError(f"{name}: no criterion has a positive label in val, so that nothing can be chosen")
    return found


def choice_among(settings: Mapping[str, Sequence[Predictions]]) -> SweepChoice:
    """The setting with the highest mean mAP over its seeds; all tables are of the same frames of val.

    Raises CalotError where settings have other numbers of seeds, or a table has no positive label.
    """
    counts = {len(tables) for tables in settings.values()}
    if len(counts) != 1 or 0 in counts:
        raise CalotError(f"settings of a sweep need equal numbers of seeds, found {sorted(counts)}")
    scores = []
    for name, tables in settings.items():
        known = tuple(deciding_map(table, name=name) for table in tables)
        scores.append(SettingScore(setting=name, map_by_seed=known, mean_map=sum(known) / len(known)))
    best = max(scores, key=lambda s: s.mean_map)
    return SweepChoice(settings=tuple(scores), chosen=best.setting, optimism=surplus_of_choice(list(settings.values())))
