"""What is shipped and what is written of the measured cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from calot.bench.tallies import EDGES, total

QUANTITIES = ("ap", "map", "difference_ap", "difference_map", "treatment_ap", "treatment_map")
ENOUGH = 100  # intervals behind a world's coverage in a bin, below which it is not read


def parted(record: dict[str, Any], part: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """World, videos and cell of one part."""
    for key, cell in record["cells"].items():
        name, world, videos = key.split(" | ")
        if name == part:
            yield world, int(videos), cell


def by_bin(record: dict[str, Any], part: str, quantity: str) -> dict[int, dict[str, list[float]]]:
    """Counts of each world at each size, in each bin of positive videos: sizes differ too much to be one number."""
    found: dict[int, dict[str, list[float]]] = {}
    for name, videos, cell in parted(record, part):
        world = f"{name}, {videos} videos"
        for edge, row in cell["tally"].get(quantity, {}).items():
            have = found.setdefault(int(edge), {}).get(world, [0.0] * 4)
            found[int(edge)][world] = [x + y for x, y in zip(have, row, strict=True)]
    return {edge: found[edge] for edge in EDGES if edge in found}


def worst(worlds: dict[str, list[float]]) -> tuple[str, list[float]] | None:
    """The world that misses most often, of those with enough intervals; all worlds together where none has."""
    enough = {name: row for name, row in worlds.items() if row[0] >= ENOUGH}
    together = [float(x) for x in np.sum(list(worlds.values()), axis=0)]
    if not enough and together[0] >= ENOUGH:
        return "all worlds together", together
    return max(enough.items(), key=lambda item: (item[1][1] + item[1][2]) / item[1][0]) if enough else None


def coverage_nodes(record: dict[str, Any], quantity: str) -> list[dict[str, Any]]:
    """The worst world per bin, at that world's mean number of positive videos."""
    part = "treatment" if quantity.startswith("treatment") else "intervals"
    nodes = []
    for worlds in by_bin(record, part, quantity).values():
        found = worst(worlds)
        if found is not None:
            world, (n, low, high, positive) = found
            missed = (low + high) / n
            nodes.append(
                {
                    "positive_videos": round(positive / n, 2),
                    "low_miss": round(low / n, 4),
                    "high_miss": round(high / n, 4),
                    "world": world,
                    "sets": int(n),
                    "standard_error": round(float(np.sqrt(max(missed * (1 - missed), 1 / n) / n)), 4),
                }
            )
    return nodes


def permutation_nodes(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The worst world's share of p < 0.05 between equally good models, alike or not, per bin."""
    nodes = []
    alike, unlike = (by_bin(record, "permutation", name) for name in ("swap_like", "swap_unlike"))
    for edge in alike:
        both = {
            f"{world}, {kind}": row
            for kind, part in (("alike", alike), ("unlike", unlike))
            for world, row in part[edge].items()
        }
        found = worst(both)
        if found is not None:
            world, (n, low, _, positive) = found
            nodes.append(
                {
                    "positive_videos": round(positive / n, 2),
                    "false_rate": round(low / n, 4),
                    "world": world,
                    "pairs": int(n),
                    "standard_error": round(float(np.sqrt(low / n * (1 - low / n) / n)), 4),
                }
            )
    return nodes


def shipped_table(record: dict[str, Any]) -> dict[str, Any]:
    """What `calot.statistics.coverage` reads."""
    return {
        "command": record["command"],
        "date": record["date"],
        "level": 0.95,
        "coverage": {quantity: coverage_nodes(record, quantity) for quantity in QUANTITIES},
        "permutation": permutation_nodes(record),
    }


def markdown(record: dict[str, Any]) -> str:
    """The page beside the counts."""
    sets = {
        part: sorted({cell["sets"] for _, _, cell in parted(record, part)})
        for part in ("intervals", "permutation", "treatment", "power")
    }
    said = "; ".join(f"{part} {'-'.join(map(str, counts))}" for part, counts in sets.items() if counts)
    lines = [
        f"# Coverage of the intervals, measured {record['date']}",
        "",
        f"Simulated sets per cell: {said}. This command runs until each has as many as it names:",
        "",
        "```",
        record["command"],
        "```",
        "",
        "Worlds: `calot.bench.worlds.WORLDS`. Truth: a population of 20,000 videos. Misses: truth below / above.",
        "",
        "## Printed beside an interval: the worst world at the number of positive videos",
        "",
        "| quantity | positive videos | coverage | truth below / above | world | intervals |",
        "|---|---|---|---|---|---|",
    ]
    for quantity, nodes in shipped_table(record)["coverage"].items():
        for node in nodes:
            covered = 1 - node["low_miss"] - node["high_miss"]
            lines.append(
                f"| {quantity} | {node['positive_videos']:.1f} | {covered:.1%} ± {node['standard_error']:.1%} | "
                f"{node['low_miss']:.1%} / {node['high_miss']:.1%} | {node['world']} | {node['sets']} |"
            )
    for part, title, columns in TABLES:
        lines += ["", f"## {title}", "", f"| world | videos | {' | '.join(columns.values())} |"]
        lines.append("|---" * (len(columns) + 2) + "|")
        for world, videos, cell in parted(record, part):
            texts = (_text(total(cell["tally"], name), kind=name) for name in columns)
            lines.append(f"| {world} | {videos} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


TABLES = (
    (
        "intervals",
        "By world and size: coverage (truth below / above), and null pairs called",
        {
            "ap": "AP",
            "map": "mAP",
            "difference_ap": "difference of AP",
            "difference_map": "difference of mAP",
            "null_ap": "null pairs, AP",
            "null_map": "null pairs, mAP",
        },
    ),
    (
        "treatment",
        "Null pairs of five seeds per side called",
        {"treatment_ap": "AP", "treatment_map": "mAP"},
    ),
    (
        "permutation",
        "Permutation p < 0.05 between equally good models, that vary alike or not",
        {"swap_like": "alike", "swap_unlike": "unlike"},
    ),
    (
        "power",
        "Power at the minimum detectable difference of mAP that equal pairs print",
        {"detectable": "printed, points", "power": "called"},
    ),
)


def _text(row: list[float], *, kind: str) -> str:
    n, low, high, positive = row
    if not n:
        return "–"
    if kind == "detectable":
        return f"{positive / n / 100:.1f}"
    if kind.startswith("swap") or kind == "power":
        return f"{low / n:.1%}"
    if kind.startswith(("null", "treatment")):
        return f"{(low + high) / n:.1%}"
    return f"{1 - (low + high) / n:.1%} ({low / n:.1%} / {high / n:.1%})"
