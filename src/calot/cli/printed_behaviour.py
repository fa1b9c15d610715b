"""What `calot metrics` says beyond scores: scaled probabilities, prediction sets, subgroups, drift; in 80 columns."""

from __future__ import annotations

from typing import Any

from calot.cli.printed import heading, print_rows, table_of_columns
from calot.criteria import CRITERIA, label
from calot.terminal import print_table

Fields = dict[str, Any]
_RATES = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV", "f1": "F1"}
_SETS = {
    "coverage": "coverage",
    "abstained": "abstained",
    "empty": "empty",
    "positives": "of positives",
    "negatives": "of negatives",
    "accuracy": "accuracy",
    "ppv": "PPV",
    "npv": "NPV",
}


def print_scaling(found: Fields) -> None:
    """Brier score, ECE and slope before and after temperature scaling."""
    if found["fitted"] is None:
        print(f"\nTemperature scaling: {found['reason']}")
        return
    rows: dict[str, dict[str, Any]] = {"temperature": {}, "Brier": {}, "scaled": {}, "change": {}}
    rows |= {"ECE": {}, "ECE, scaled": {}, "plain": {}, "plain, sc.": {}, "slope": {}, "slope, sc.": {}}
    for name, item in found["criteria"].items():
        before, after = item["before"], item["after"]
        rows["temperature"][name], rows["change"][name] = item["temperature"], item["brier_change"]
        for key, shown, scaled in (
            ("brier", "Brier", "scaled"),
            ("ece_debiased", "ECE", "ECE, scaled"),
            ("ece", "plain", "plain, sc."),
            ("slope", "slope", "slope, sc."),
        ):
            rows[shown][name] = before[key]
            rows[scaled][name] = None if after is None else after[key]
    print(f"\nTemperature scaling, {found['applied']}:")
    print_rows(rows)
    print("Probability: sigmoid(logit / temperature). Ranks, AP and thresholds on logits stay as they are.")


def print_at_sensitivity(found: Fields) -> None:
    """Rates at the thresholds frozen for a target sensitivity."""
    if found["thresholds"] is None:
        print(f"\nDecisions at a target sensitivity: {found['reason']}")
        return
    rows: dict[str, dict[str, Any]] = {"cut": dict(found["thresholds"]["values"])}
    rows |= {shown: {n: rates.get(key) for n, rates in found["decisions"].items()} for key, shown in _RATES.items()}
    rows["bal. acc."] = {n: rates.get("balanced_accuracy") for n, rates in found["decisions"].items()}
    split = found["thresholds"]["split"]
    print(f"\nDecisions at the highest cut with a sensitivity of {found['target']:g} on {split}:")
    print_rows(rows)


def print_sets(found: Fields) -> None:
    """Abstention by prediction sets, with the coverage measured."""
    if found["level"] is None:
        print(f"\nPrediction sets: {found['reason']}")
        return
    print(f"\nPrediction sets at {found['level']:.0%}, {found['applied']}:")
    rows: dict[str, dict[str, Any]] = {"limit": {}, **{shown: {} for shown in _SETS.values()}}
    for name, item in found["criteria"].items():
        rows["limit"][name] = item["limit"]
        for key, shown in _SETS.items():
            rows[shown][name] = item[key]
    print_rows(rows)
    print(f"Guaranteed by {found['calibration_videos']} calibration videos: {found['guaranteed']:.1%}:")
    print(f"{found['guarantee'][0].upper()}{found['guarantee'][1:]}.")
    print("Abstained: both labels; empty: neither. Accuracy, PPV, NPV: where the set has one label.")
    print("Nothing is guaranteed for positives, or negatives, alone.")
    if found["reason"]:
        print(f"{found['reason'][0].upper()}{found['reason'][1:]}.")


def print_subgroups(found: Fields) -> None:
    """AP of each part, what it has more than the rest, chance, and videos with a positive."""
    print("\nSubgroups: AP in points, minus the rest's; chance and videos with a positive:")
    table, few = table_of_columns("", *map(heading, CRITERIA)), []
    for part in found["found"]:
        scored, name = part["criteria"], part["name"].removesuffix(" frame").removesuffix(" video")
        table.add_row(name, *(_short(scored[c]["ap"]) for c in CRITERIA))
        table.add_row(" minus rest", *(_short(scored[c]["difference"], sign="+") for c in CRITERIA))
        table.add_row(" chance", *(_chance(scored[c]) for c in CRITERIA))
        letters = [label(c).split()[0] for c in CRITERIA if scored[c]["few"]]
        few += [f"{name} {' '.join(letters)}"] if letters else []
    print_table(table)
    if few:
        print(f"Fewer than {found['few_below']} videos with a positive, uncertain: {', '.join(few)}")
    kinds: dict[str, list[str]] = {}
    for kind, why in found["undefined"].items():
        kinds.setdefault(why, []).append(kind)
    for why, named in kinds.items():
        print(f"No subgroups by {' or '.join(named)}: {why}")


def _short(item: Fields, *, sign: str = "") -> str:
    """`61.2 (40 to 75)` in points; why there is no interval is in --json."""
    if item["value"] is None:
        return "–"
    value = f"{100 * item['value']:{sign}.1f}"
    return value if item["low"] is None else f"{value} ({100 * item['low']:.0f} to {100 * item['high']:.0f})"


def _chance(item: Fields) -> str:
    count = item["positive_videos"]
    return "–" if item["chance"] is None else f"{100 * item['chance']:.1f}, {count} video{'' if count == 1 else 's'}"


def print_drift(found: Fields) -> None:
    """Mean forecast minus observed share by fifth of the operation."""
    print("\nCalibration over the operation: mean forecast minus observed share, by fifth:")
    rows: dict[str, dict[str, Any]] = {}
    for place in range(found["parts"]):
        rows[f"fifth {place + 1}"] = {name: item["parts"][place] for name, item in found["criteria"].items()}
    rows["5 minus 1"] = {name: item["last_minus_first"] for name, item in found["criteria"].items()}
    print_rows(rows)
