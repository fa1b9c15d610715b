"""The results root of a run: where its ledger and its baseline's runs lie."""

from __future__ import annotations

from pathlib import Path

from calot.provenance import ledger
from calot.provenance.data_ledger import DataLedger
from calot.provenance.run_facts import candidates_of

_LEVELS = 4


def find_results(path: Path) -> Path:
    """The nearest folder above a run that holds a ledger, else the run's grandparent (`results/<experiment>/<run>`)."""
    above = list(path.resolve().parents)
    for folder in above[:_LEVELS]:
        if (folder / ledger.NAME).is_file():
            return folder
    return above[min(1, len(above) - 1)]


def openings_text(results: Path, *, manifest_hash: str | None) -> str:
    """How often test was opened on this manifest, wherever its results went; nothing is claimed without a ledger."""
    if manifest_hash is None:
        return "How often test was opened is unknown: data.json names no manifest."
    found = DataLedger(manifest_hash=manifest_hash, results=results)
    times = found.test_openings()
    if times == 0 and not found.entries() and not (results / ledger.NAME).is_file():
        return "No ledger stands in the results root, so how often test was opened is unknown."
    if times == 0:
        return "Test has never been opened on this manifest."
    return f"Test has been opened {times} time{'' if times == 1 else 's'} on this manifest."


def candidates_text(results: Path, *, manifest_hash: str | None) -> str:
    """How many settings and results were tried on this manifest, or that it is unknown."""
    if manifest_hash is None:
        return "unknown: data.json names no manifest"
    return str(candidates_of(DataLedger(manifest_hash=manifest_hash, results=results)))
