"""What `calot metrics` says of one table, section by section, narrow enough for 80 columns."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from calot.cli.printed import (
    heading,
    held_in_words,
    held_share,
    in_points,
    interval_text,
    number,
    points,
    print_reasons,
    print_rows,
    ranged,
    seed_text,
    table_of_columns,
)
from calot.cli.printed_behaviour import (
    print_at_sensitivity,
    print_drift,
    print_scaling,
    print_sets,
    print_subgroups,
)
from calot.criteria import CRITERIA, label
from calot.terminal import print_table

if TYPE_CHECKING:
    from calot.statistics.videos import VideoTable

Fields = dict[str, Any]
#: Threshold probabilities of the decision curve that are printed; --json holds them all.
_PRINTED = (0.1, 0.2, 0.3, 0.5)
_RATES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
    "balanced_accuracy": "bal. acc.",
}
_OF_OPERATIONS = {
    "flips_per_minute": "flips/min",
    "false_alarms_per_hour": "alarms/h",
    "detected": "detected",
    "detection_seconds": "delay, s",
}


def print_header(fields: Fields) -> None:
    """Which frames were scored, under which protocol, and how the result came about."""
    counts = fields["positives"] or {}
    positives = "; positives: " + ", ".join(f"{name} {count}" for name, count in counts.items()) if counts else ""
    print(
        f"{fields['dataset']} {fields['split']}, protocol {fields['protocol']}, manifest {fields['manifest_hash'][:12]}"
    )
    print(f"{fields['videos']} videos, {fields['frames']} frames{positives}")
    trained = f", trained on {fields['trained_on']}" if fields["trained_on"] else ""
    print(f"Labels: scored by {fields['label_rule']}{trained}; seeds: {', '.join(map(seed_text, fields['seeds']))}")
    window = f"; window: {fields['window']}" if fields["window"] else ""
    known = fields["causal"] is not None
    print(f"{fields['causality'].capitalize() if known else 'Causality: unknown'}{window}")
    epochs = f"; {fields['epochs']} epochs" if fields["epochs"] else ""
    if fields["combination"] is not None:
        print(f"Combined: {fields['combination']['said']}")
    print(f"Selection: {fields['selection'] or 'unknown'}{epochs}")
    print(f"Candidates: {fields['candidates']['said']}")
    if fields["test_openings"] is not None:
        times = fields["test_openings"]
        print(f"Test was opened {times} time{'' if times == 1 else 's'} for this data set")


def print_metrics(fields: Fields, *, operations: VideoTable | None, by_video: bool) -> None:
    """Every section; operations where the table is one model's."""
    print_header(fields)
    _print_optimism(fields)
    _print_precision(fields)
    _print_probabilities(fields)
    _print_reliability(fields["calibration"])
    print_scaling(fields["temperature_scaling"])
    print_drift(fields["calibration_drift"])
    _print_attention(fields["attention_on_anatomy"])
    _print_confidence(fields.get("confidence_target"))
    _print_ceiling(fields["rater_ceiling"])
    _print_decisions(fields)
    print_at_sensitivity(fields["at_sensitivity"])
    print_sets(fields["prediction_sets"])
    _print_curve(fields["decision_curve"])
    print_subgroups(fields["subgroups"])
    if operations is not None:
        _print_operations(operations)
    if operations is not None and by_video:
        _print_videos(operations)
    for note in (*fields["notes"], *(() if operations is None or not by_video else operations.notes)):
        print(f"Note: {note}")


def _print_optimism(fields: Fields) -> None:
    print(f"Optimism: {fields['optimism']['said']}")
    print(f"Optimism: {fields['optimism_of_setting']['said']}")


def _print_attention(found: Fields | None) -> None:
    if found is None:
        return
    shares = {"of attention on the anatomy": "mass", "of the area": "area", "enrichment": "enrichment"}
    print(f"\nAttention in epoch {found['epoch']}, {found['clips']} clips of {found['videos']} videos with anatomy:")
    for text, name in shares.items():
        print(f"  {text}: {ranged(found[name])}")
    print_reasons({name: found[name] for name in shares.values()})


def _print_confidence(found: Fields | None) -> None:
    """Sub-challenge B of SAGES, where the data set asked its raters how sure they were."""
    if found is None:
        return
    print("\nSquared error against raters weighted by their confidence (SAGES sub-challenge B):")
    print_rows({"squared error": found["criteria"]})
    reference = {name: item["reference"] for name, item in found["criteria"].items()}
    print_rows({"mean target throughout": reference})
    print(f"Mean over criteria: {ranged(found['mean'])}")


def _print_precision(fields: Fields) -> None:
    coverage = fields["interval"]["measured_coverage"]
    ceiling = fields["rater_ceiling"]
    table = table_of_columns("", "AP", "95 % over videos", "held", "chance", "raters", "model")
    for name, ap in fields["ap"].items():
        chance, votes = f"{100 * ap['prevalence']:.1f}", _on_votes((ceiling["ap"] or {}).get(name))
        table.add_row(label(name), points(ap["value"]), interval_text(ap), held_share(coverage[name]), chance, *votes)
    total = fields["map"]
    chance, votes = f"{100 * total['chance']:.1f}", _on_votes(ceiling["map"])
    table.add_row("mAP", points(total["value"]), interval_text(total), held_share(coverage["map"]), chance, *votes)
    print_table(table)
    print("Raters, model: AP of the other raters and of the model on one rater's votes (below).")
    print_reasons({label(name): ap for name, ap in fields["ap"].items()} | {"mAP": total})
    print(f"Intervals: {fields['interval']['method']}. Of mAP: {held_in_words(coverage['map'])}")
    print(f"Intervals of all other figures: {fields['interval']['of_other_figures']}.")
    if len(fields["per_seed"]) > 1:
        each = ", ".join(f"{row['seed']}: {points(row['map'])}" for row in fields["per_seed"])
        print(f"mAP by seed: {each}; standard deviation over seeds {points(fields['seed_deviation'])}")


def _on_votes(found: Fields | None) -> tuple[str, str]:
    """The rater ceiling and the model on the ceiling's target, in points."""
    if found is None:
        return "–", "–"
    values = (found[name]["value"] for name in ("ceiling", "model"))
    shown = ["–" if value is None else f"{100 * value:.1f}" for value in values]
    return shown[0], shown[1]


def _print_probabilities(fields: Fields) -> None:
    print("\nProbabilities:")
    rows: dict[str, dict[str, Any]] = {"Brier": {}, "skill": {}, "Brier, soft": {}, "skill, soft": {}}
    rows |= {"ECE": {}, "ECE, plain": {}, "of perfect": {}, "slope": {}, "intercept": {}}
    for name, fit in fields["calibration"].items():
        for key, suffix in (("brier", ""), ("brier_soft", ", soft")):
            item = fields[key][name]
            shown = item.get("intervals") or {}
            rows[f"Brier{suffix}"][name] = shown.get("value", item)
            rows[f"skill{suffix}"][name] = shown.get("skill", item | {"value": None})
        rows["ECE"][name] = fit["ece_debiased"]
        rows["ECE, plain"][name] = fit["ece"]
        rows["of perfect"][name] = fit["ece_perfect"]
        rows["slope"][name], rows["intercept"][name] = (fit["intervals"][key] for key in ("slope", "intercept"))
    print_rows(rows)
    skill = fields["brier_skill_macro_interval"]
    print(f"Mean skill: {ranged(skill)}. Soft: against the rater mean. ECE: without its bias; plain: as usual;")
    print("of perfect: what plain is expected to be for a perfectly calibrated model on these videos.")


def _print_reliability(calibration: Fields) -> None:
    print("\nReliability: mean forecast, observed share, frames of each bin")
    curves = [[_bin(point) for point in calibration[name]["reliability"]] for name in CRITERIA]
    table = table_of_columns(*map(heading, CRITERIA))
    for place in range(max(map(len, curves))):
        table.add_row(*(curve[place] if place < len(curve) else "" for curve in curves))
    print_table(table)


def _bin(point: Fields) -> str:
    return f"{point['forecast']:.3f} {point['observed']:.3f} {point['frames']:>6}"


def _print_ceiling(ceiling: Fields) -> None:
    if ceiling["map"] is None:
        print(f"\nRater ceiling: unknown: {ceiling['reason']}")
        return
    print(f"\nRater ceiling, {ceiling['raters']} raters: AP on {ceiling['target']},")
    print("of the other raters and of the model on the same frames, points:")
    shown = {"ceiling": "raters", "model": "model", "difference": "difference"}
    print_rows(
        {text: {name: in_points(item[key]) for name, item in ceiling["ap"].items()} for key, text in shown.items()}
    )
    print("mAP: " + ", ".join(f"{text} {ranged(in_points(ceiling['map'][key]))}" for key, text in shown.items()))


def _print_decisions(fields: Fields) -> None:
    rows: dict[str, dict[str, Any]] = {name: {} for name in ("cut", *_RATES.values())}
    for name, item in fields["decisions"].items():
        rows["cut"][name] = item["threshold"]
        for rate, shown in _RATES.items():
            rows[shown][name] = item.get("intervals", {}).get(rate)
    if not any(rows["sensitivity"].values()):
        return
    print("\nDecisions, positive when logit >= cut:")
    print_rows(rows)
    print(f"Thresholds: frozen on {fields['thresholds']['split']}; the rule {fields['thresholds']['rule']}")


def _print_curve(curve: Fields) -> None:
    print("\nNet benefit at threshold probability p; gain: beyond the better of calling all and none")
    rows: dict[str, dict[str, Any]] = {}
    for name, items in curve.items():
        for point in items:
            if point["probability"] in _PRINTED:
                rows.setdefault(f"p = {point['probability']:.1f}", {})[name] = point["model"]
                rows.setdefault(f"gain at {point['probability']:.1f}", {})[name] = point["gain"]
    print_rows(rows)


def _print_operations(found: VideoTable) -> None:
    decided = [row for row in found.rates.values() if row.flips_per_minute.value is not None]
    if decided:
        print("\nOver whole operations:")
        print_rows(
            {
                shown: {name: asdict(getattr(item, key)) for name, item in found.rates.items()}
                for key, shown in _OF_OPERATIONS.items()
            }
        )
        print("Detected: share of operations with a positive label that are called at or after it.")
    else:
        print(f"\nOver whole operations: {next(iter(found.rates.values())).flips_per_minute.reason}")
    if found.operations is None:
        print("All three criteria held, by operation: undefined: a threshold or the frame rate is missing")
        return
    o, how = found.operations, f" for {found.held_seconds:g} s" if found.held_seconds else ""
    print(
        f"All three criteria held{how}, by operation: {o.true_positives} correctly and {o.false_positives} wrongly "
        f"called, {o.false_negatives} missed, {o.true_negatives} correctly not called"
    )
    for rate in ("sensitivity", "specificity", "ppv", "npv"):
        item = getattr(o, rate)
        print(f"  {_RATES[rate]}: {ranged(asdict(item))}{'' if item.reason is None else f' ({item.reason})'}")


def _print_videos(videos: VideoTable) -> None:
    table = table_of_columns("video", "criterion", "pos.", "AP", "flips/min", "alarms/h", "delay s", "why not")
    for row in videos.rows:
        for name, item in row.criteria.items():
            table.add_row(
                row.video, name, f"{item.positives}/{row.frames}", number(item.ap), number(item.flips_per_minute),
                number(item.false_alarms_per_hour), number(item.detection_seconds), item.reason or "",
            )  # fmt: skip
    print_table(table)
