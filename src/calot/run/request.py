"""A request for a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calot.config.overrides import Override
from calot.experiment import Experiment
from calot.experiments import Found, baseline_of


@dataclass(frozen=True)
class Request:
    """One run asked for: what to train (already at its scale), on what, where to, and what to do with an old folder.

    `overrides` are the changes as typed, which are in the experiment already.
    `imported` names the file whose weights are taken in place of training.
    `results` is the root that holds the ledger and the receipts' controls. Without `receipt` the run proves nothing
    and is stamped so; `despite_receipt` trains though a check failed. With `share_receipt` checks that do not depend on
    the seed are taken from another run's, where nothing that they depend on differs. `log` names the tracking services
    that follow the run.
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
    overrides: tuple[Override, ...] = ()
    results: Path = Path("results")
    receipt: bool = True
    despite_receipt: bool = False
    share_receipt: bool = False
    log: tuple[str, ...] = ()

    @property
    def baseline(self) -> Experiment | None:
        """The baseline that the experiment names, at the same scale."""
        return baseline_of(self.experiment, self.found, scale=self.scale)
