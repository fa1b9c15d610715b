"""Where the encoder looks, as the page shows it: how spread out attention is, beside the baseline's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from calot.provenance.evidence import ENTROPY, ObservedEvidence
from calot.report import figures
from calot.report.baseline import Partners
from calot.report.run_folder import RunFolder
from calot.report.tables import Row, Table, columns, ranged

_WHAT = (
    "Entropy of the last layer’s attention, as a share of the most there can be: 1 is attention to all tokens alike, "
    "0 to a single one. Read after each epoch on the same few validation clips in every run."
)


@dataclass(frozen=True, kw_only=True)
class EntropyView:
    """One chart and what it shows."""

    drawing: Markup
    caption: str


def entropy_view(run: RunFolder, *, partners: Partners | None) -> EntropyView | None:
    """This run's attention entropy by epoch beside its baseline's; None where the run has no such readings."""
    own = entropy_by_epoch(run)
    if not own:
        return None
    lines, said = {"this run": own}, ""
    if partners is not None:
        other = partners.runs[0] if partners.runs else None
        theirs = () if other is None else entropy_by_epoch(other)
        if other is not None and theirs:
            lines["its baseline"] = theirs
            said = f" Beside it: its baseline {other.label}, seed {other.seed}."
        elif other is not None:
            of = f"{other.label}, seed {other.seed}"
            said = f" Its baseline’s is not shown: the receipt of {of}, has no such readings."
        else:
            said = f" Its baseline’s is not shown. {partners.problem}"
    drawn = {name: np.array(values, dtype=np.float64) for name, values in lines.items()}
    return EntropyView(drawing=figures.entropy(drawn), caption=f"{_WHAT}{said}")


def anatomy_table(run: RunFolder) -> Table | None:
    """Attention on the anatomy beside its area, each with its interval; None where the run kept none."""
    found = run.attention
    if found is None:
        return None
    parts = {
        "attention on the anatomy, share": found.mass,
        "its area, share of tokens": found.area,
        "attention over area (1: as uniform attention)": found.enrichment,
    }
    reasons = dict.fromkeys(item.reason for item in parts.values() if item.reason)
    return Table(
        title=f"Attention on the anatomy, val split, epoch {found.epoch}: {found.clips} clips of {found.videos} videos",
        columns=columns("", "value"),
        rows=[Row(cells=(name, ranged(item))) for name, item in parts.items()],
        sortable=False,
        note=f"No interval: {'; '.join(reasons)}." if reasons else "",
    )


def entropy_by_epoch(run: RunFolder) -> Sequence[float | None]:
    """The readings of every stage, one epoch after the other; none where the receipt has none."""
    check = None if run.receipt is None else next((c for c in run.receipt.checks if c.name == "observed"), None)
    if check is None or not isinstance(check.evidence, ObservedEvidence):
        return ()
    stages = sorted((r for r in check.evidence.readings if r.name == ENTROPY), key=lambda r: r.stage)
    return tuple(value for reading in stages for value in reading.by_epoch)
