"""The page of `calot attention`: where an encoder looks, beside what it would without training, data or order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from calot.report.attention_figures import by_layer, enrichments, grid_of_values, sheet
from calot.report.attention_files import AttentionFiles
from calot.report.attention_tables import (
    ENTROPIES,
    PLACED,
    baseline_tables,
    enrichment_table,
    layer_table,
    token_sets,
    values_of,
    weights_table,
)
from calot.report.page import render
from calot.report.sheets import Sheet
from calot.report.tables import Fact
from calot.report.verdict import PHANTOM_BANNER, Reason, Stamp, Verdict
from calot.statistics.attention import AGAINST, RANDOM_WEIGHTS, RUN, SHUFFLED, STUDY, UNIFORM
from calot.writing import write_text

ATTENTION_PAGE = "attention.html"

#: Statistics that are drawn over layers beside their baselines: title and what it says.
_CHARTS = {
    "gap_nats": "Mutual information, nats",
    "distance_tokens": "Mean distance in space, tokens",
    "distance_seconds": "Mean distance in time, seconds",
    "window_share": "Share in the query’s own window",
    "largest": "Largest received attention, × n",
    "on_the_most": "Share on the 1 % that receive most",
}


def write_attention_page(folder: Path) -> Path:
    """Write `attention.html` from the tables in a folder. Raises CalotError where they cannot be read."""
    files = AttentionFiles.read(Path(folder))
    return write_text(Path(folder) / ATTENTION_PAGE, render("attention.html", context=attention_context(files)))


def attention_context(files: AttentionFiles) -> dict[str, Any]:
    """The values of `attention.html`."""
    facts, run = files.facts, files.facts["run"]
    name = f"{run['name']}, seed {run['seed']}"
    against = facts["against"]
    contents = [("verdict", "In short"), ("clips", "What was read"), ("entropy", "Entropy"), ("anatomy", "Anatomy")]
    contents += [("places", "Distance and sinks"), ("maps", "Maps"), *([("against", "Against")] if against else [])]
    return {
        "title": f"Attention of {name}",
        "kicker": f"calot attention · {facts['split']} · {len(facts['clips'])} clips of {facts['videos']} videos",
        "heading": run["name"],
        "banners": [PHANTOM_BANNER] if run["synthetic"] else [],
        "stamps": [Stamp("synthetic data", warn=True)] if run["synthetic"] else [],
        "verdict": Verdict(headline=_headline(files), reasons=_reasons(files)),
        "contents": contents,
        "facts": _facts(files),
        "entropy": _entropy(files),
        "entropy_table": layer_table(files, ENTROPIES, title="Entropy by layer, means over heads, clips and queries"),
        "heads": _heads(files),
        "anatomy": _anatomy(files),
        "anatomy_tables": [enrichment_table(files, kind) for kind in ("enrichment", "mass")],
        "places": [_chart(files, name) for name in _CHARTS if name != "gap_nats"],
        "places_table": layer_table(files, PLACED, title="Distances, window and sinks by layer"),
        "baselines": baseline_tables(files),
        "maps": _sheets(files),
        "against": _against(files) if against else None,
        "footer": f"Written by calot {facts['calot']} from {Path(run['folder']).name}. One file, no network.",
    }


def _headline(files: AttentionFiles) -> Markup:
    true, study = values_of(files, "entropy"), values_of(files, STUDY)
    return Markup(
        f"Each query’s attention has {_span(true)} % of the largest entropy there is; of the map averaged over heads, "
        f"queries and clips the study’s figure says {_span(study)} %."
    )


def _span(values: Sequence[float]) -> str:
    low, high = 100 * min(values), 100 * max(values)
    return f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"


def _reasons(files: AttentionFiles) -> list[Reason]:
    random, uniform = values_of(files, "entropy", variant=RANDOM_WEIGHTS), values_of(files, "entropy", variant=UNIFORM)
    found = [
        Reason("Random weights.", f"The same network, untrained, reads {_span(random)} %; uniform attention 100 %.")
    ]
    assert uniform
    gap = files.means("gap_nats", variant=RUN)
    most = max(gap, key=lambda row: row["value"])
    said = f"Largest in layer {most['layer']}: {most['value']:.3f} nats ({_bounds(most)})"
    found.append(Reason("Averaged minus true", f"is the mutual information of query and key. {said}."))
    shuffled = files.means("entropy", variant=RUN, less=SHUFFLED)
    moved = [row["layer"] for row in shuffled if row["low"] is not None and (row["low"] > 0 or row["high"] < 0)]
    text = f"layers {', '.join(map(str, moved))}" if moved else "no layer"
    found.append(Reason("Order of frames.", f"Shuffling them moves the true entropy beyond its interval in {text}."))
    masked, clips = files.facts["clips_with_mask"], len(files.facts["clips"])
    found.append(Reason("Masks.", f"{masked} of {clips} clips have one; only these count for classes."))
    return found


def _bounds(row: Mapping[str, Any]) -> str:
    return row["reason"] or "no interval" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"


def _facts(files: AttentionFiles) -> list[Fact]:
    facts = files.facts
    time, rows, across = facts["grid"]
    parts = "all tokens of a clip see each other" if facts["parts"] == 1 else f"in {facts['parts']} separate parts"
    said = f"{time} bins of {rows} × {across} tokens, {facts['pixels']} pixels a side; {parts}"
    window = f"{facts['window']} × {facts['window']} tokens of the query’s own bin"
    sides = [grid[1] for grid in facts.get("grids") or [facts["grid"]]]
    if min(sides) < max(sides):
        said += f", and there in windows; by layer {', '.join(map(str, sides))} tokens a side"
        window = f"half of a layer’s side, in the query’s own bin: from {max(sides) // 2} to {min(sides) // 2} tokens"
    found = [
        Fact(name="Encoder", text=facts["run"]["backbone"], wide=True),
        Fact(name="Tokens", text=said),
        Fact(name="Window", text=window),
        Fact(name="Data", text=f"{facts['run']['dataset']}{', synthetic' if facts['run']['synthetic'] else ''}"),
        Fact(name="Clips", text=f"{len(facts['clips'])} of {facts['videos']} videos of {facts['split']}"),
        Fact(name="With a mask", text=f"{facts['clips_with_mask']}, of them {facts['clips_with_true_mask']} true"),
        Fact(name="Border", text=f"tokens no brighter than {facts['dark_level']:g} of 255 in every frame of a clip"),
    ]
    if facts["against"] is not None:
        other = facts["against"]
        found.append(Fact(name="Against", text=f"{other['name']}, seed {other['seed']}", wide=True))
    return found


def _chart(files: AttentionFiles, statistic: str) -> Markup:
    title = _CHARTS[statistic]
    lines = {v: files.means(statistic, variant=v) for v in (RUN, AGAINST, RANDOM_WEIGHTS, SHUFFLED, UNIFORM)}
    lines = {label: rows for label, rows in lines.items() if rows}
    return by_layer(lines, title=title, name=f"attention-{statistic}", describe=_described(title, lines))


def _described(title: str, lines: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A chart in words: each line's first and last value."""
    said = [
        f"{label} {_short(rows[0]['value'])} in layer {rows[0]['layer']}, {_short(rows[-1]['value'])} in layer "
        f"{rows[-1]['layer']}"
        for label, rows in lines.items()
    ]
    return f"{title} by layer: {'; '.join(said)}"


def _short(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3g}"


def _entropy(files: AttentionFiles) -> list[Markup]:
    lines = {
        RUN: files.means("entropy", variant=RUN),
        AGAINST: files.means("entropy", variant=AGAINST),
        RANDOM_WEIGHTS: files.means("entropy", variant=RANDOM_WEIGHTS),
        SHUFFLED: files.means("entropy", variant=SHUFFLED),
        UNIFORM: files.means("entropy", variant=UNIFORM),
    }
    kinds = {
        RUN: lines[RUN],
        "averaged over queries": files.means("averaged_entropy", variant=RUN),
        "the study’s": files.means(STUDY, variant=RUN),
    }
    drawn = []
    for title, held, name in (
        ("True entropy, share of the most", lines, "true"),
        ("True, averaged, the study’s", kinds, "kinds"),
    ):
        shown = {label: rows for label, rows in held.items() if rows}
        drawn.append(by_layer(shown, title=title, name=f"attention-{name}", describe=_described(title, shown)))
    return [*drawn, _chart(files, "gap_nats")]


def _heads(files: AttentionFiles) -> list[Markup]:
    drawn = []
    for statistic, title in (
        ("entropy", "True entropy"),
        ("gap_nats", "MI, nats"),
        ("distance_tokens", "Distance, tokens"),
    ):
        described = f"{title} of every layer and head; the numbers are in summary.csv"
        values = _by_head(files, statistic)
        drawn.append(grid_of_values(values, title=title, name=f"heads-{statistic}", describe=described, across="head"))
    return drawn


def _by_head(files: AttentionFiles, statistic: str, *, less: str | None = None) -> np.ndarray:
    of = pl.col("less").is_null() if less is None else pl.col("less") == less
    rows = files.summary.filter(
        (pl.col("statistic") == statistic) & (pl.col("variant") == RUN) & pl.col("head").is_not_null() & of
    )
    found = np.full((len(files.layers), 1 + int(rows["head"].max())), np.nan)  # type: ignore[arg-type]
    for row in rows.to_dicts():
        found[row["layer"], row["head"]] = np.nan if row["value"] is None else row["value"]
    return found


def _anatomy(files: AttentionFiles) -> list[Markup]:
    """Enrichment in the first, the middle and the last layer."""
    drawn = []
    for layer in sorted({files.layers[0], files.layers[len(files.layers) // 2], files.layers[-1]}):
        lines: dict[str, dict[str, Any]] = {}
        for variant in (SHUFFLED, RANDOM_WEIGHTS, AGAINST, RUN):
            rows = {one: files.mean(f"enrichment_{one}", variant=variant, layer=layer) for one in token_sets(files)}
            if held := {one: row for one, row in rows.items() if row is not None}:
                lines[variant] = held
        drawn.append(enrichments(lines, layer=layer, name=f"enrichment-{layer}"))
    return drawn


def _sheets(files: AttentionFiles) -> list[Sheet]:
    """A few clips with the averaged map of the first, the middle and the last layer, and of the other run's last."""
    held, found = files.pictures, []
    layers = sorted({0, len(files.layers) // 2, len(files.layers) - 1})
    for place, name in enumerate(held.names):
        maps = [held.maps[RUN][place, layer] for layer in layers]
        said = [f"layer {layer}" for layer in layers]
        if AGAINST in held.maps:
            maps.append(held.maps[AGAINST][place, layers[-1]])
            said.append(f"layer {layers[-1]} of the other run")
        brightest = [f"brightest {one.max() * one.size:.1f} × uniform" for one in maps]
        rows = [f"{text} ({most})" for text, most in zip(said, brightest, strict=True)]
        found.append(
            Sheet(
                title=name[0].upper() + name[1:],
                source=sheet(held.frames[place], np.stack(maps)),
                said=f"Below the frames, from the top: {', '.join(rows)}.",
            )
        )
    return found


def _against(files: AttentionFiles) -> dict[str, Any]:
    names = ENTROPIES | PLACED | {f"enrichment_{s}": f"{s.replace('_', ' ')}, over area" for s in token_sets(files)}
    apart = {"apart": "maps apart", "cka": "CKA of tokens"}
    weights = files.weights
    drawn = [
        grid_of_values(
            _by_head(files, "apart", less=AGAINST),
            title="Maps apart",
            name="heads-apart",
            describe="Mean total variation distance of the two runs’ maps, by layer and head; numbers in summary.csv",
            across="head",
        )
    ]
    if weights is not None:
        targets = weights["target"].unique(maintain_order=True).to_list()
        values = weights["relative"].to_numpy().reshape(-1, len(targets))
        drawn.append(
            grid_of_values(
                values,
                title="Weight update",
                name="weights",
                describe="Relative size of the difference of weights by layer and linear; numbers in weights.csv",
                across="linear",
                names=targets,
            )
        )
    return {
        "figures": drawn,
        "apart": layer_table(files, apart, title="What changed by layer", less=AGAINST),
        "differences": layer_table(files, names, title="This run minus the other, the same clips", less=AGAINST),
        "weights": None if weights is None else weights_table(weights),
    }
