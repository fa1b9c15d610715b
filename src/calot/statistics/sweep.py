"""A choice among settings, each run with the same seeds: by mean validation mAP, and how much that choice flatters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calot.errors import CalotError
from calot.reading import read_record
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


FILE = "sweep.json"
NOT_SWEPT = (
    "this run belongs to no sweep: calot train --sweep and calot sweep estimate it over the settings that they train"
)


@dataclass(frozen=True, kw_only=True)
class SettingOptimism:
    """By how much (mAP, a share) choosing among the settings of a run's sweep flatters the one chosen, and whether the
    run is of that one; `reason` says why `value` is None."""

    settings: int | None
    chosen: bool | None
    value: float | None
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the sentence."""
        return asdict(self) | {"said": str(self)}

    def __str__(self) -> str:
        if self.settings is None:
            return f"of choosing among settings not estimated: {self.reason}"
        among = f"the {self.settings} settings of its sweep ({FILE})"
        if self.value is None:
            return f"of choosing among {among} not estimated: {self.reason}"
        mine = "this run's setting is the one chosen" if self.chosen else "another setting than this run's was chosen"
        return f"choosing among {among} flatters the best by about {100 * self.value:.1f} points; {mine}"


def setting_optimism(run: Path | None) -> SettingOptimism:
    """What the sweep that a run belongs to wrote beside its settings. Raises CalotError for a damaged file."""
    path = None if run is None else run.resolve().parent.parent / FILE
    if run is None or path is None or not path.is_file():
        return SettingOptimism(settings=None, chosen=None, value=None, reason=NOT_SWEPT)
    found = read_record(path, remedy="choose again: calot train --sweep ... --resume")
    try:
        settings = [str(item["setting"]) for item in found["settings"]]
        value, reason, chosen = found["optimism"]["value"], found["optimism"]["reason"], found["chosen"]
        value = None if value is None else float(value)
    except (KeyError, TypeError, ValueError) as error:
        raise CalotError(
            f"{path}: not a sweep that calot wrote ({error!r}); choose again: calot train --sweep"
        ) from error
    mine = run.resolve().parent.name
    if mine not in settings:
        return SettingOptimism(settings=None, chosen=None, value=None, reason=NOT_SWEPT)
    return SettingOptimism(settings=len(settings), chosen=mine == chosen, value=value, reason=reason)


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
