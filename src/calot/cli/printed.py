"""Comparisons and runs as text, narrow enough for 80 columns, and the words that they share with metrics."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from calot.criteria import CRITERIA, label
from calot.terminal import print_table

if TYPE_CHECKING:
    from calot.statistics.compare import Comparison
    from calot.statistics.outcome import PairedDifference


def points(value: float | None) -> str:
    """A score in points."""
    return "undefined" if value is None else f"{100 * value:.2f}"


def interval_text(item: dict[str, Any]) -> str:
    """Two bounds in points."""
    from calot.statistics.rounding import between

    if item["low"] is None:
        return "undefined"
    return between(item["low"], item["high"])


def print_reasons(items: dict[str, dict[str, Any]]) -> None:
    """Why there is no interval, one line per reason: a table has no room for it."""
    named: dict[str, list[str]] = {}
    for name, item in items.items():
        if item["low"] is None and item.get("reason"):
            named.setdefault(item["reason"], []).append(name)
    for reason, names in named.items():
        print(f"No interval for {', '.join(names)}: {reason}")


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def table_of_columns(*headings: str) -> Any:
    """A table narrow enough for 80 columns, so that a log file loses nothing."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading != "why not")
    return table


def seed_text(seed: int | None) -> str:
    """A seed, or that a table does not say."""
    return "unknown" if seed is None else str(seed)


def _p(value: float | None) -> str:
    return "< 0.001" if value is not None and value < 0.001 else number(value)


def held_share(coverage: dict[str, Any] | None) -> str:
    """What such intervals held in simulation."""
    return "–" if coverage is None else f"{coverage['coverage']:.1%}"


def held_in_words(coverage: dict[str, Any] | None) -> str:
    """What the column `held` says, for mAP in full."""
    if coverage is None:
        return "Held: not measured for this method or this few positive videos."
    return (
        f"Held: share of simulated intervals with the truth inside, worst world, nominal 95 %. mAP, "
        f"{coverage['positive_videos']} positive videos: {coverage['coverage']:.1%} ± "
        f"{coverage['standard_error']:.1%} (truth below {coverage['low_miss']:.1%}, above "
        f"{coverage['high_miss']:.1%}; {coverage['world']})."
    )


def print_rows(rows: dict[str, dict[str, Any]]) -> None:
    """One row per quantity and one column per criterion: value with its interval; a bare number is as it is."""
    table = table_of_columns("", *map(heading, CRITERIA))
    reasons: dict[str, dict[str, Any]] = {}
    for shown, items in rows.items():
        table.add_row(shown, *(value_cell(items.get(name)) for name in CRITERIA))
        held = {name: item for name, item in items.items() if isinstance(item, dict)}
        reasons |= {f"{shown} {label(name).split()[0]}": {"low": None} | item for name, item in held.items()}
    print_table(table)
    print_reasons(reasons)


def heading(criterion: str) -> str:
    """The letter with the right name, on two lines."""
    return label(criterion).replace(" ", "\n", 2).replace("\n", " ", 1)


def value_cell(item: Any) -> str:
    """A value with its interval, a number, or words."""
    if isinstance(item, str):
        return item
    return ranged(item) if isinstance(item, dict) else number(item)


def ranged(item: dict[str, Any]) -> str:
    """`0.247 (0.20 to 0.30)`, `-1.79 (-2.60 to -0.99)`: digits by size."""
    value = item["value"]
    if value is None:
        return "–"
    large = abs(value) >= 10
    shown = _rounded(value, 1 if large else 2 if abs(value) >= 1 else 3)
    if item.get("low") is None:
        return shown
    return f"{shown} ({_rounded(item['low'], 1 if large else 2)} to {_rounded(item['high'], 1 if large else 2)})"


def _rounded(value: float, digits: int, /) -> str:
    """Without a minus before zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def in_points(item: dict[str, Any]) -> dict[str, Any]:
    """A share with its interval as points."""
    return item | {name: 100 * item[name] for name in ("value", "low", "high") if item[name] is not None}


def print_runs(rows: list[dict[str, Any]]) -> None:
    """One line per run: its val mAP with the interval over videos, or the receipt's failed check in their place."""
    table = table_of_columns("run", "seed", "val mAP", "95 % over videos", "chance", "treatment")
    for row in rows:
        scored = "value" in row
        cells = (
            (points(row["value"]), interval_text(row), f"{100 * row['chance']:.1f}") if scored else ("INVALID", "", "")
        )
        proof = "verified" if not row["treatment"] else "unverified" if scored else "failed"
        table.add_row(row["experiment"], str(row["seed"]), *cells, proof)
    print_table(table)
    for said in dict.fromkeys(r["combined"] for r in rows if r["combined"]):
        print(f"Combined: {said}")
    named = [(f"{r['experiment']} seed {r['seed']}", r) for r in rows]
    for stamp in dict.fromkeys(r["treatment"] for r in rows if r["treatment"]):
        print(f"{stamp}: {', '.join(name for name, r in named if r['treatment'] == stamp)}")
    print_reasons({name: r for name, r in named if "value" in r})
    beside = [r["trivial_baselines"]["verdict"] for r in rows if "trivial_baselines" in r]
    for line in ["Against trivial baselines on the same clips:", *beside] if beside else []:
        print(line)


def print_comparison(found: Comparison, *, holm_p: float | None) -> None:
    """What `calot compare` says of two sides; no differences where they are INVALID."""
    print(f"\n{found.a.name} − {found.b.name}: {found.dataset} {found.split}, protocol {found.protocol}, ", end="")
    print(f"manifest {found.manifest_hash[:12]}, {found.videos} videos, {found.frames} frames")
    for side in (found.a, found.b):
        scored = zip(side.seeds, side.map, strict=True)
        each = ", ".join(f"seed {seed_text(seed)}: {points(value)}" for seed, value in scored)
        spread = "" if side.deviation is None else f"; standard deviation over seeds {points(side.deviation)}"
        scores = f"mAP {points(side.mean)} ({each}{spread}); {side.treatment.stamp or 'treatment verified'}"
        print(f"{side.name}: {'no result' if side.treatment.invalid else scores}")
        for said in side.combined:
            print(f"  combined: {said}")
        for note in side.notes:
            print(f"Note on {side.name}: {note}")
    if not found.invalid:
        table = table_of_columns("points", "A − B", "95 % interval", "p", "Holm", "MDD", "se v", "se s")
        for name, item in found.ap.items():
            table.add_row(label(name), *_cells(item))
        table.add_row("mAP", *_cells(found.map))
        print_table(table)
        print_reasons({label(name): asdict(item) for name, item in found.ap.items()} | {"mAP": asdict(found.map)})
        print("MDD: smallest difference detected with about 80 % power; se: standard error from videos, seeds.")
        print(held_in_words(None if found.map.coverage is None else asdict(found.map.coverage)))
    print(found.verdict)
    if holm_p is not None:
        print(f"p corrected over the comparisons (Holm): {_p(holm_p)}")


def _cells(item: PairedDifference) -> list[str]:
    errors = [points(value) if value is not None else "–" for value in (item.minimum_detectable, item.video_error)]
    seeds = "–" if item.seed_error is None else points(item.seed_error)
    return [points(item.value), interval_text(asdict(item)), _p(item.p), _p(item.p_holm), *errors, seeds]
