"""What a run is asked to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calot.experiment import Experiment
from calot.experiments import Found


@dataclass(frozen=True)
class Request:
    """One run asked for: what to train (already at its scale), on what, where to, and what to do with an old folder.

    `imported` names the file whose weights are taken in place of training.
    `results` is the root that holds the ledger and the receipts' controls. Without `receipt` the run proves nothing
    and is stamped so; `despite_receipt` trains though a check failed.
    """

    found: Found
    experiment: Experiment
    scale: str
    data: Path
    folder: Path
    seed: int
    resume: bool = False
    overwrite: bool = False
    imported: str | None = None
    results: Path = Path("results")
    receipt: bool = True
    despite_receipt: bool = False
