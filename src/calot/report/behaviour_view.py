"""What a split shows beyond its scores, as tables and one figure: scaling, sensitivity, sets, subgroups, drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from calot.criteria import CRITERIA, label
from calot.report import figures
from calot.report.criterion_tables import NAMES, Quantity, criterion_table
from calot.report.tables import (
    Cell,
    Ranged,
    Row,
    Table,
    Undefined,
    columns,
    in_sentence,
    number,
    percent,
    points,
    ranged,
)
from calot.statistics.behaviour import Behaviour
from calot.statistics.frame_sums import RATES
from calot.statistics.frozen import FrozenOnVal
from calot.statistics.intervals import Interval
from calot.statistics.metrics import sigmoid
from calot.statistics.prediction_sets import FROZEN, GUARANTEE, ON_ITSELF, TOO_FEW
from calot.statistics.subgroups import FEW, PartScore, Subgroups
from calot.statistics.temperature import FROZEN as SCALED
from calot.statistics.temperature import ON_ITSELF as SCALED_ON_ITSELF
from calot.statistics.temperature import Forecasts

_SETS = {
    "coverage": "coverage",
    "abstained": "abstained: both labels",
    "empty": "neither label",
    "positives": "coverage of positives",
    "negatives": "coverage of negatives",
    "accuracy": "accuracy, one label",
    "ppv": "PPV, one label",
    "npv": "NPV, one label",
}


@dataclass(frozen=True, kw_only=True)
class BehaviourView:
    """Tables of one split; those of what was frozen on val are None where nothing was."""

    scaling: Table
    sensitivity: Table | None
    sets: Table | None
    sets_said: str
    subgroups: Table
    differences: Table
    subgroups_said: str
    drift: Table
    drift_drawn: Sequence[Markup]


def behaviour_view(found: Behaviour, *, split: str) -> BehaviourView:
    """Of one split."""
    frozen = found.frozen
    return BehaviourView(
        scaling=_scaling_table(found, split=split),
        sensitivity=None if frozen is None else _sensitivity_table(found, frozen=frozen, split=split),
        sets=None if frozen is None else _sets_table(found, split=split),
        sets_said="" if frozen is None else _sets_said(frozen, own=found.own),
        subgroups=_parts_table(found.subgroups, split=split),
        differences=_differences_table(found.subgroups, split=split),
        subgroups_said=_subgroups_said(found.subgroups),
        drift=_drift_table(found, split=split),
        drift_drawn=_drift_panels(found, split=split),
    )


def _scaling_table(found: Behaviour, *, split: str) -> Table:
    how = SCALED_ON_ITSELF if found.own else SCALED
    none = Interval(value=None, low=None, high=None, reason="no temperature")
    rows: dict[str, Quantity] = {
        "temperature": {name: item.temperature for name, item in found.scaling.items()},
        "change of Brier": {name: item.brier_change for name, item in found.scaling.items()},
    }
    for name in ("Brier", "ECE, debiased", "ECE, plain", "slope"):
        rows[f"{name}, scaled"] = {
            criterion: none if item.after is None else _figure(item.after, name=name)
            for criterion, item in found.scaling.items()
        }
    title = f"Temperature scaling, {split} split, {how}"
    return criterion_table(title, rows=rows, digits=dict.fromkeys(("temperature", "slope, scaled"), 2))


def _figure(item: Forecasts, *, name: str) -> Interval | Cell:
    if name == "Brier":
        return item.brier.value
    if name == "slope":
        return item.slope
    return item.ece.debiased if name == "ECE, debiased" else number(item.ece.plain)


def _sensitivity_table(found: Behaviour, *, frozen: FrozenOnVal, split: str) -> Table:
    none = Interval(value=None, low=None, high=None, reason="no positive on val to choose a threshold from")
    limits = frozen.sensitive.values
    cells: dict[str, Interval | Cell] = {
        name: Undefined("no positive on val") if limit is None else number(float(sigmoid(limit)))
        for name, limit in limits.items()
    }
    rows: dict[str, Quantity] = {"threshold": cells}
    for rate in RATES[:4]:
        rows[NAMES.get(rate, rate)] = {name: held.get(rate, none) for name, held in found.sensitive.items()}
    title = f"Decisions, {split} split, at the highest threshold with a sensitivity of {frozen.sensitivity:g} on val"
    return criterion_table(title, rows=rows)


def _sets_table(found: Behaviour, *, split: str) -> Table:
    rows: dict[str, Quantity] = {
        shown: {name: getattr(item, key) for name, item in found.sets.items()} for key, shown in _SETS.items()
    }
    if not any(item.empty.value for item in found.sets.values()):
        del rows[_SETS["empty"]]
    how = ON_ITSELF if found.own else FROZEN
    return criterion_table(f"Prediction sets, {split} split, {how}", rows=rows)


def _sets_said(frozen: FrozenOnVal, *, own: bool) -> str:
    limits = frozen.limits
    few = f" {TOO_FEW[0].upper()}{TOO_FEW[1:]}." if None in limits.values.values() else ""
    measured = "with each video left out in turn" if own else "with the limits frozen on val"
    return (
        f"Sets at a nominal {percent(limits.level, digits=0)}: {percent(limits.guaranteed)} is guaranteed by "
        f"{limits.videos} calibration videos ({GUARANTEE}); the coverage above is measured {measured}.{few} Where a "
        "set has both labels the model abstains. Nothing is guaranteed for positives, or for negatives, alone."
    )


def _parts_table(found: Subgroups, *, split: str) -> Table:
    rows = [Row(cells=(part.name, *(_part_cell(part.criteria[name]) for name in CRITERIA))) for part in found.found]
    title = f"AP in points by subgroup, {split} split, with chance and videos that hold a positive"
    return Table(title=title, columns=columns("frames", *map(label, CRITERIA)), rows=rows, sortable=False)


def _part_cell(item: PartScore) -> Cell:
    """`61.2` over `40.1 to 75.0; chance 22.1, 14 videos`."""
    if item.ap.value is None:
        return Undefined(item.ap.reason or "")
    count = item.positive_videos
    beside = f"chance {in_sentence(points(item.chance))}, {count} video{'' if count == 1 else 's'}"
    value = ranged(item.ap, digits=1, scale=100.0)
    return Ranged(value.value, f"{value.interval}; {beside}") if isinstance(value, Ranged) else value


def _differences_table(found: Subgroups, *, split: str) -> Table:
    rows: dict[str, Quantity] = {
        part.name: {name: item.difference for name, item in part.criteria.items()} for part in found.found
    }
    title = f"AP of each subgroup minus that of all other frames, points, {split} split"
    return criterion_table(title, rows=rows, digits=dict.fromkeys(rows, 1), scale=100.0)


def _subgroups_said(found: Subgroups) -> str:
    few = {
        part.name: [label(name).split()[0] for name, item in part.criteria.items() if item.few] for part in found.found
    }
    said = [f"{name} ({', '.join(letters)})" for name, letters in few.items() if letters]
    parts = [f"Fewer than {FEW} videos with a positive, so that even the interval is uncertain: {', '.join(said)}."]
    kinds: dict[str, list[str]] = {}
    for kind, why in found.undefined.items():
        kinds.setdefault(why, []).append(kind)
    return " ".join(
        [*(parts if said else []), *(f"None by {' or '.join(kind)}: {why}." for why, kind in kinds.items())]
    )


def _drift_table(found: Behaviour, *, split: str) -> Table:
    first = next(iter(found.drift.values()))
    rows: dict[str, Quantity] = {
        f"fifth {place + 1}": {name: item.parts[place] for name, item in found.drift.items()}
        for place in range(len(first.parts))
    }
    rows["last minus first"] = {name: item.last_minus_first for name, item in found.drift.items()}
    title = f"Mean forecast minus observed share by fifth of the operation, {split} split"
    return criterion_table(title, rows=rows)


def _drift_panels(found: Behaviour, *, split: str) -> list[Markup]:
    drawn = []
    for name, item in found.drift.items():
        values = np.array([part.value for part in item.parts], dtype=np.float64)
        bounds = np.array([(part.low, part.high) for part in item.parts], dtype=np.float64).T
        drawn.append(figures.drift_panel(name, split=split, values=values, bounds=bounds))
    return drawn
