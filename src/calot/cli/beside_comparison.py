"""What stands beside a comparison: header, chance, rater ceiling, trivial baselines, how each side was tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calot.cli.printed import points

if TYPE_CHECKING:
    from calot.cli.tables import Runs
    from calot.statistics.compare import Comparison
    from calot.statistics.predictions import Predictions

Fields = dict[str, Any]


def header_fields(table: Predictions, *, run: Path | None, path: Path, results: Path) -> Fields:
    """What all sides share: labels, chance, how many settings the ledgers know, how often test was opened."""
    from dataclasses import asdict

    from calot.cli.tables import data_of
    from calot.provenance.data_ledger import DataLedger
    from calot.provenance.run_facts import RunFacts, candidates_of
    from calot.statistics.summary import header

    record = DataLedger(manifest_hash=table.manifest_hash, data=data_of(path), results=results)
    found, labels = candidates_of(record), table.by_seed()[0].labels
    return {
        "label_rule": header(table)["label_rule"],
        "positives": {name: int(labels[:, k].sum()) for k, name in enumerate(table.criteria)},
        "chance": float(labels.mean()),
        "causal": RunFacts.of(run).causal,
        "candidates": asdict(found) | {"said": str(found)},
        "test_openings": record.test_openings() if table.split == "test" and record.known else None,
    }


def side_fields(side: Runs, *, runs: Sequence[Path]) -> Fields:
    """What one side is seen beside: the raters on the ceiling's target, the best trivial baseline, its sweep."""
    import numpy as np

    from calot.provenance.run_facts import RunFacts
    from calot.statistics.ceiling import rater_ceiling
    from calot.statistics.jackknife import interval_fields
    from calot.statistics.sweep import setting_optimism
    from calot.statistics.trivial import beside_trivial

    ceilings = [rater_ceiling(table) for table in side.tables]
    votes = [one.map for one in ceilings if one.map is not None]
    model = [one.model.value for one in votes if one.model.value is not None]
    beside = [beside_trivial(table, run=run) for table, run in zip(side.tables, runs, strict=False)]
    known = [one for one in beside if one.best is not None]
    tuned = {setting_optimism(run).settings for run in runs}
    selections = {RunFacts.of(run).selection for run in runs} or {None}
    return {
        "rater_ceiling": interval_fields(votes[0].ceiling) if votes else None,
        "no_ceiling": None if votes else ceilings[0].reason,
        "model_on_votes": float(np.mean(model)) if votes and len(model) == len(votes) else None,
        "trivial_baselines": [one.verdict() for one in known] or None,
        "standing": sorted({one.standing for one in known}) or None,
        "no_trivial_baselines": None if known else beside[0].reason if beside else "no run",
        "settings_tried": tuned.pop() if len(tuned) == 1 else None,
        "selection": selections.pop() if len(selections) == 1 else None,
    }


def equal_budgets(a: Fields, b: Fields) -> str:
    """Whether both sides were chosen among equally many settings, in one sentence."""
    tried = [side["settings_tried"] for side in (a, b)]
    if None in tried:
        known = " and ".join("unknown" if n is None else str(n) for n in tried)
        return f"Settings tried by sweep: {known}: equal tuning budgets are not shown"
    same = tried[0] == tried[1]
    return f"Settings tried by sweep: {tried[0]} and {tried[1]}: {'equal' if same else 'UNEQUAL'} tuning budgets"


def print_header_fields(found: Fields) -> None:
    """One paragraph above the comparisons."""
    from calot.provenance.run_facts import CAUSAL

    positives = ", ".join(f"{name} {count}" for name, count in found["positives"].items())
    print(f"Labels: {found['label_rule']}; positives: {positives}; chance {points(found['chance'])}")
    print("Causality: unknown" if found["causal"] is None else CAUSAL[found["causal"]].capitalize())
    print(f"Candidates: {found['candidates']['said']}")
    if found["test_openings"] is not None:
        times = found["test_openings"]
        print(f"Test was opened {times} time{'' if times == 1 else 's'} for this data set")


def compared_rows(found: Sequence[Comparison], *, beside: Mapping[str, Fields]) -> list[Fields]:
    """Each comparison with what its sides are seen beside, and p corrected over all of them, for JSON."""
    from calot.statistics.permutation import holm

    rows = []
    for item, p in zip(found, holm([item.map.p for item in found]), strict=True):
        seen = {name: beside[name] for name in (item.a.name, item.b.name)}
        rows.append({**item.to_dict(), "map_p_holm_over_comparisons": p, "beside": seen})
    return rows


def print_compared(found: Sequence[Comparison], *, beside: Mapping[str, Fields]) -> None:
    """Each comparison, and what its sides are seen beside where there is a result."""
    from calot.cli.printed import print_comparison
    from calot.statistics.permutation import holm

    for item, p in zip(found, holm([item.map.p for item in found]), strict=True):
        print_comparison(item, holm_p=p if len(found) > 1 else None)
        if not item.invalid:
            print_sides({n: beside[n] for n in (item.a.name, item.b.name)})


def print_sides(sides: Mapping[str, Fields]) -> None:
    """The raters, the baselines and the tuning of two sides."""
    a, b = sides.values()
    if a["rater_ceiling"] is None:
        print(f"Rater ceiling: unknown: {a['no_ceiling']}")
    else:
        models = ", ".join(f"{name} {points(side['model_on_votes'])}" for name, side in sides.items())
        print(f"On one rater's votes: the other raters {points(a['rater_ceiling']['value'])}, {models} (mAP)")
    for name, side in sides.items():
        print(f"{name}, selection: {side['selection'] or 'unknown'}")
        lines = side["trivial_baselines"] or [f"Trivial baselines: {side['no_trivial_baselines']}"]
        for line in dict.fromkeys(lines):
            print(f"{name}: {line}")
    print(f"{equal_budgets(a, b)}.")
