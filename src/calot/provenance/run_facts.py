"""What a run's folder and the ledgers say of how a result came about: causality, selection, candidates, its name."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calot.config.fingerprint import NO_TREATMENT
from calot.errors import CalotError
from calot.provenance.data_ledger import DataLedger
from calot.provenance.ledger import COMBINED, PREDICTED
from calot.provenance.run_files import DataFile, ExperimentFile, read_file
from calot.reading import LARGEST_TABLE, read_plain

SELECTION = "best epoch by val macro mAP: val is optimistic"
LAST_EPOCH = "last epoch, the only one that was scored: val chose none"
OF_MEMBERS = "that of its members: val is optimistic"
ELSEWHERE = "made elsewhere, not verified: val may be optimistic"
CAUSAL = {True: "causal: no frame after the scored one", False: "not causal: frames after the scored one are seen"}


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """How many were tried on one data set: distinct `settings`, and val `results` with each seed counted.

    Both are None where no ledger tells, and `reason` says so.
    """

    settings: int | None
    results: int | None
    reason: str | None

    def __str__(self) -> str:
        if self.settings is None or self.results is None:
            return f"unknown: {self.reason}"
        return (
            f"{self.settings} setting{'' if self.settings == 1 else 's'} in {self.results} val "
            f"result{'' if self.results == 1 else 's'} recorded for this data set"
        )


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """How a table's run was made; None is unknown, as for a bare file."""

    causal: bool | None = None
    window: str | None = None
    trained_on: str | None = None
    selection: str | None = None
    epochs: int | None = None

    @classmethod
    def of(cls, run: Path | None) -> RunFacts:
        """From data.json, metrics.csv and import.json of a run's folder; what is missing there is unknown.

        Raises CalotError for a data.json that is damaged.
        """
        if run is None:
            return cls()
        data = read_file(run / "data.json", DataFile) if (run / "data.json").is_file() else {}
        elsewhere = (run / "import.json").is_file()
        epochs = _epochs(run / "metrics.csv")
        own = (LAST_EPOCH if epochs == 1 else SELECTION) if (run / "metrics.csv").is_file() else None
        path = run / "experiment.json"
        combined = path.is_file() and read_file(path, ExperimentFile).get("combination") is not None
        return cls(
            causal=data.get("causal"),
            window=data.get("window"),
            trained_on=data.get("label_rule"),
            selection=ELSEWHERE if elsewhere else OF_MEMBERS if combined else own,
            epochs=None if elsewhere else epochs,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def candidates_of(record: DataLedger) -> Candidates:
    """Settings and val results that the ledgers of a data set know."""
    if not record.known:
        return Candidates(settings=None, results=None, reason="the table names no data set")
    try:
        entries = record.entries()
    except (OSError, CalotError) as error:
        return Candidates(settings=None, results=None, reason=str(error))
    seen = {
        (str(entry.facts.get("fingerprint")), str(entry.facts.get("digest")))
        for entry in entries
        if entry.event in (PREDICTED, COMBINED) and entry.facts.get("split", "val") == "val"
    }
    if not seen:
        return Candidates(settings=None, results=None, reason="no ledger here has a result of this data set")
    return Candidates(settings=len({fingerprint for fingerprint, _ in seen}), results=len(seen), reason=None)


def changed_name(record: Mapping[str, Any]) -> str:
    """The experiment's name with what the command line changed of its treatment: `e02_frozen_probe train.lr=1e-2`."""
    words = [str(record.get("name"))]
    overrides = record.get("overrides")
    for change in overrides if isinstance(overrides, list) else ():
        typed = change.get("typed") if isinstance(change, dict) else None
        if not isinstance(typed, str):
            continue
        given, _, value = typed.partition("=")
        if is_treatment(field := str(change.get("field") or given)):
            words.append(f"{field}={value}")
    return " ".join(words)


def is_treatment(field: str) -> bool:
    """Whether a field, by its path, is part of what is tried."""
    return field.split(".")[0] not in NO_TREATMENT


def leaves(value: Any, *, at: str = "") -> dict[str, Any]:
    """The fields of a resolved experiment by their path; a component's own class stands under its path."""
    if not isinstance(value, dict):
        return {at: value}
    found: dict[str, Any] = {}
    for name, part in value.items():
        path = at if name == "_type" else f"{at}.{name}" if at else str(name)
        found |= {path: part} if name == "_type" else leaves(part, at=path)
    return found


def _epochs(path: Path) -> int | None:
    """How many epochs could be chosen: those of the last stage that val was scored after."""
    try:
        text = read_plain(path, largest=LARGEST_TABLE).decode("utf-8", errors="replace")
    except OSError:
        return None
    rows = list(csv.DictReader(line for line in text.splitlines() if line.strip()))
    scored = [row.get("stage") for row in rows if row.get("val_map", "unknown") != ""]
    return scored.count(scored[-1]) if scored else None
