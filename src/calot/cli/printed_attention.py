"""Attention by layer as text, narrow enough for 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calot.cli.printed import table_of_columns
from calot.terminal import print_table

if TYPE_CHECKING:
    from calot.report.attention_files import AttentionFiles


def print_attention(files: AttentionFiles) -> None:
    """What was read, and the main figures layer by layer, means over heads and clips."""
    from calot.statistics.attention import AGAINST, RANDOM_WEIGHTS, RUN, STUDY

    facts = files.facts
    print(f"{facts['run']['name']} seed {facts['run']['seed']}, {facts['split']}: {facts['run']['backbone']}")
    if facts["run"]["synthetic"]:
        print("The data is synthetic: nothing here says anything of real operations.")
    print(
        f"{len(facts['clips'])} clips of {facts['videos']} videos, {facts['clips_with_mask']} with a mask "
        f"({facts['clips_with_true_mask']} of them true)"
    )
    table = table_of_columns("layer", "entropy", "95 %", "random", "averaged", "study's", "MI, nats", "distance", "1 %")
    for layer in files.layers:
        got = {n: files.mean(n, variant=RUN, layer=layer) for n in ("entropy", "averaged_entropy", STUDY, "gap_nats")}
        got |= {n: files.mean(n, variant=RUN, layer=layer) for n in ("distance_tokens", "on_the_most")}
        random = files.mean("entropy", variant=RANDOM_WEIGHTS, layer=layer)
        table.add_row(
            str(layer),
            *(share_text(got["entropy"]), range_text(got["entropy"]), share_text(random)),
            *(share_text(got["averaged_entropy"]), share_text(got[STUDY]), _plain(got["gap_nats"], digits=3)),
            *(_plain(got["distance_tokens"], digits=2), share_text(got["on_the_most"])),
        )
    print_table(table)
    print(
        "Entropy: mean over queries, in % of its maximum; averaged: of the map averaged over queries; study's: over "
        "heads and clips too. MI: averaged minus true, the mutual information of query and key. Distance in tokens. "
        "1 %: attention on the 1 % of tokens that receive most."
    )
    _print_enrichment(files)
    if facts["against"] is not None:
        against = facts["against"]
        print(f"\nThis run minus {against['name']} seed {against['seed']}, the same clips:")
        _print_changes(files, against=AGAINST)


def _print_enrichment(files: AttentionFiles) -> None:
    from calot.statistics.attention import RANDOM_WEIGHTS, RUN

    names = [n for n in files.summary["statistic"].unique(maintain_order=True) if n.startswith("enrichment_")]
    last = files.layers[-1]
    table = table_of_columns("last layer, attention over area", "value", "95 %", "random")
    for name in names:
        own, random = (files.mean(name, variant=v, layer=last) for v in (RUN, RANDOM_WEIGHTS))
        low = "–" if own is None or own["low"] is None else f"{own['low']:.2f} to {own['high']:.2f}"
        title = name.removeprefix("enrichment_").replace("_", " ")
        table.add_row(title, _plain(own, digits=2), low, _plain(random, digits=2))
    print_table(table)


def _print_changes(files: AttentionFiles, *, against: str) -> None:
    from calot.statistics.attention import RUN

    names = ("entropy", "apart", "cka")
    table = table_of_columns("layer", "entropy", "95 %", "maps apart", "CKA", "largest weight update")
    for layer in files.layers:
        entropy, apart, cka = (files.mean(n, variant=RUN, layer=layer, less=against) for n in names)
        weights = [] if files.weights is None else files.weights.to_dicts()
        most = max((row for row in weights if row["layer"] == layer), key=lambda row: row["relative"], default=None)
        said = "–" if most is None else f"{most['target']} {most['relative']:.2g}"
        cells = (share_text(entropy, sign="+"), range_text(entropy, sign="+"))
        table.add_row(str(layer), *cells, _plain(apart, digits=3), _plain(cka, digits=3), said)
    print_table(table)


def share_text(row: dict[str, Any] | None, *, sign: str = "") -> str:
    """A share in percent."""
    return "–" if row is None or row["value"] is None else _percent(row["value"], sign=sign)


def range_text(row: dict[str, Any] | None, *, sign: str = "") -> str:
    """Its interval in percent."""
    if row is None or row["low"] is None:
        return "–"
    return f"{_percent(row['low'], sign=sign)} to {_percent(row['high'], sign=sign)}"


def _percent(share: float, *, sign: str) -> str:
    """Without a minus before a zero."""
    return f"{round(100 * share, 1) + 0.0:{sign}.1f}"


def _plain(row: dict[str, Any] | None, *, digits: int) -> str:
    return "–" if row is None or row["value"] is None else f"{row['value']:.{digits}f}"
