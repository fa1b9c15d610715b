"""Metrics and comparisons as text, narrow enough for 80 columns."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from calot.terminal import print_table

if TYPE_CHECKING:
    from calot.statistics.compare import Comparison
    from calot.statistics.outcome import PairedDifference
    from calot.statistics.videos import VideoTable


def _points(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f}"


def _range(item: dict[str, Any]) -> str:
    if item["low"] is None:
        return "undefined"
    return f"{100 * item['low']:.1f} to {100 * item['high']:.1f}"


def _print_reasons(items: dict[str, dict[str, Any]]) -> None:
    """Why there is no interval, one line per reason: a table has no room for it."""
    named: dict[str, list[str]] = {}
    for name, item in items.items():
        if item["low"] is None and item["reason"]:
            named.setdefault(item["reason"], []).append(name)
    for reason, names in named.items():
        print(f"No interval for {', '.join(names)}: {reason}")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _table(*headings: str) -> Any:
    """A table narrow enough for 80 columns, so that a log file loses nothing."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading != "why not")
    return table


def _seed(seed: int | None) -> str:
    return "unknown" if seed is None else str(seed)


def _p(value: float | None) -> str:
    return "< 0.001" if value is not None and value < 0.001 else _number(value)


def print_metrics(fields: dict[str, Any], *, operations: VideoTable | None, by_video: bool) -> None:
    """What `calot metrics` says of one table."""
    from calot.criteria import label

    print_header(fields)
    coverage = fields["interval"]["measured_coverage"]
    table = _table("", "AP", "95 % over videos", "held", "chance")
    for name, ap in fields["ap"].items():
        chance = f"{100 * ap['prevalence']:.1f}"
        table.add_row(label(name), _points(ap["value"]), _range(ap), _held(coverage[name]), chance)
    total = fields["map"]
    chance = f"{100 * total['chance']:.1f}"
    table.add_row("mAP", _points(total["value"]), _range(total), _held(coverage["map"]), chance)
    print_table(table)
    _print_reasons({label(name): ap for name, ap in fields["ap"].items()} | {"mAP": total})
    print(f"Intervals: {fields['interval']['method']}. {_held_words(coverage['map'])}")
    if len(fields["per_seed"]) > 1:
        each = ", ".join(f"{row['seed']}: {_points(row['map'])}" for row in fields["per_seed"])
        print(f"mAP by seed: {each}; standard deviation over seeds {_points(fields['seed_deviation'])}")
    table = _table("", "Brier", "skill", "ECE", "slope", "intercept")
    for name, fit in fields["calibration"].items():
        brier = fields["brier"][name]
        numbers = (brier["value"], brier["skill"], fit["ece"], fit["slope"], fit["intercept"])
        table.add_row(label(name), *map(_number, numbers))
    table.add_row("mean skill", "", _number(fields["brier_skill_macro"]), "", "", "")
    print_table(table)
    _print_decisions(fields["decisions"])
    if operations is not None and operations.operations is not None:
        o = operations.operations
        print(
            f"All three criteria held, by operation: {o.true_positives} correctly and "
            f"{o.false_positives} wrongly called, "
            f"{o.false_negatives} missed, {o.true_negatives} correctly not called"
        )
    if operations is not None and by_video:
        _print_videos(operations)
    for note in (*fields["notes"], *(() if operations is None or not by_video else operations.notes)):
        print(f"Note: {note}")


def _held(coverage: dict[str, Any] | None) -> str:
    return "–" if coverage is None else f"{coverage['coverage']:.1%}"


def _held_words(coverage: dict[str, Any] | None) -> str:
    """What the column `held` says, for mAP in full."""
    if coverage is None:
        return "Held: not measured for this method or this few positive videos."
    return (
        f"Held: share of simulated intervals with the truth inside, worst world, nominal 95 %. mAP, "
        f"{coverage['positive_videos']} positive videos: {coverage['coverage']:.1%} ± "
        f"{coverage['standard_error']:.1%} (truth below {coverage['low_miss']:.1%}, above "
        f"{coverage['high_miss']:.1%}; {coverage['world']})."
    )


def print_runs(rows: list[dict[str, Any]]) -> None:
    """One line per run: its val mAP with the interval over videos, or the receipt's failed check in their place."""
    table = _table("run", "seed", "val mAP", "95 % over videos", "chance", "treatment")
    for row in rows:
        scored = "value" in row
        cells = (_points(row["value"]), _range(row), f"{100 * row['chance']:.1f}") if scored else ("INVALID", "", "")
        proof = "verified" if not row["treatment"] else "unverified" if scored else "failed"
        table.add_row(row["experiment"], str(row["seed"]), *cells, proof)
    print_table(table)
    named = [(f"{r['experiment']} seed {r['seed']}", r) for r in rows]
    for stamp in dict.fromkeys(r["treatment"] for r in rows if r["treatment"]):
        print(f"{stamp}: {', '.join(name for name, r in named if r['treatment'] == stamp)}")
    _print_reasons({name: r for name, r in named if "value" in r})


def print_header(fields: dict[str, Any]) -> None:
    """Which frames were scored, under which protocol."""
    counts = fields["positives"] or {}
    positives = "; positives: " + ", ".join(f"{name} {count}" for name, count in counts.items()) if counts else ""
    print(
        f"{fields['dataset']} {fields['split']}, protocol {fields['protocol']}, manifest {fields['manifest_hash'][:12]}"
    )
    print(f"{fields['videos']} videos, {fields['frames']} frames{positives}")
    print(f"Labels: {fields['label_rule']}; seeds: {', '.join(map(_seed, fields['seeds']))}")
    if fields["test_openings"] is not None:
        times = fields["test_openings"]
        print(f"Test was opened {times} time{'' if times == 1 else 's'} for this data set")


def _print_decisions(rows: dict[str, Any]) -> None:
    from calot.criteria import label

    rates = ("sensitivity", "specificity", "ppv", "npv", "f1", "balanced_accuracy")
    if not any("reason" not in row for row in rows.values()):
        return
    print("\nDecisions, positive when logit >= cut:")
    table = _table("", "cut", "sens.", "spec.", "PPV", "NPV", "F1", "bal. acc.")
    for name, row in rows.items():
        table.add_row(label(name), _number(row["threshold"]), *(_number(row.get(rate)) for rate in rates))
    print_table(table)


def _print_videos(videos: VideoTable) -> None:
    table = _table("video", "criterion", "pos.", "AP", "flips/min", "alarms/h", "delay s", "why not")
    for row in videos.rows:
        for name, item in row.criteria.items():
            table.add_row(
                row.video, name, f"{item.positives}/{row.frames}", _number(item.ap), _number(item.flips_per_minute),
                _number(item.false_alarms_per_hour), _number(item.detection_seconds), item.reason or "",
            )  # fmt: skip
    print_table(table)


def print_comparison(found: Comparison, *, holm_p: float | None) -> None:
    """What `calot compare` says of two sides; no differences where they are INVALID."""
    from calot.criteria import label

    print(f"\n{found.a.name} − {found.b.name}: {found.dataset} {found.split}, protocol {found.protocol}, ", end="")
    print(f"manifest {found.manifest_hash[:12]}, {found.videos} videos, {found.frames} frames")
    for side in (found.a, found.b):
        scored = zip(side.seeds, side.map, strict=True)
        each = ", ".join(f"seed {_seed(seed)}: {_points(value)}" for seed, value in scored)
        spread = "" if side.deviation is None else f"; standard deviation over seeds {_points(side.deviation)}"
        scores = f"mAP {_points(side.mean)} ({each}{spread}); {side.treatment.stamp or 'treatment verified'}"
        print(f"{side.name}: {'no result' if side.treatment.invalid else scores}")
        for note in side.notes:
            print(f"Note on {side.name}: {note}")
    if not found.invalid:
        table = _table("points", "A − B", "95 % interval", "p", "Holm", "MDD", "se v", "se s")
        for name, item in found.ap.items():
            table.add_row(label(name), *_cells(item))
        table.add_row("mAP", *_cells(found.map))
        print_table(table)
        _print_reasons({label(name): asdict(item) for name, item in found.ap.items()} | {"mAP": asdict(found.map)})
        print("MDD: smallest difference detected with 80 % power; se: standard error from videos, seeds.")
        print(_held_words(None if found.map.coverage is None else asdict(found.map.coverage)))
    print(found.verdict)
    if holm_p is not None:
        print(f"p corrected over the comparisons (Holm): {_p(holm_p)}")


def _cells(item: PairedDifference) -> list[str]:
    errors = [_points(value) if value is not None else "–" for value in (item.minimum_detectable, item.video_error)]
    seeds = "–" if item.seed_error is None else _points(item.seed_error)
    return [_points(item.value), _range(asdict(item)), _p(item.p), _p(item.p_holm), *errors, seeds]
