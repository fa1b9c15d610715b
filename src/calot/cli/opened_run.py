"""A finished run, its model on the device and its data set open: where `calot attention` and `explain` begin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from accelerate import Accelerator

from calot.experiment import Experiment
from calot.models.classifier import Classifier
from calot.pipeline import load_run
from calot.progress import Ui
from calot.run import folder as run_folder
from calot.run.build import build_classifier
from calot.run.data import OpenData
from calot.run.device import make_accelerator, placed

#: Added to a run's seed for the random weights beside it: another draw, also where the run's own began as random ones.
_ANOTHER_DRAW = 1_000_003


@dataclass(frozen=True, kw_only=True)
class OpenedRun:
    """A run's model on its device, and its data set."""

    folder: Path
    experiment: Experiment
    model: Classifier
    seed: int
    accelerator: Accelerator
    data: OpenData

    @classmethod
    def of(cls, folder: Path, *, data: Path | OpenData, ui: Ui) -> Self:
        """Raises CalotError for a folder without a finished run, and for one that cannot be asked."""
        experiment, model, seed = load_run(folder)
        cls.require(folder, experiment)
        accelerator = make_accelerator(experiment.compute)
        placed(model, accelerator=accelerator)
        if isinstance(data, OpenData):
            opened = data.of_experiment(experiment)
        else:
            opened = OpenData.of(data, experiment=experiment, ui=ui)
        return cls(folder=folder, experiment=experiment, model=model, seed=seed, accelerator=accelerator, data=opened)

    @staticmethod
    def require(folder: Path, experiment: Experiment) -> None:
        """Raises CalotError where such a run cannot be asked; called before its data are opened."""

    @cached_property
    def untrained(self) -> Classifier:
        """The same model with random weights of another draw than the run's own, on the device."""
        before = torch.get_rng_state()
        torch.manual_seed(self.seed + _ANOTHER_DRAW)
        model = build_classifier(self.experiment, weights=False)
        torch.set_rng_state(before)
        placed(model, accelerator=self.accelerator)
        return model

    def facts(self) -> dict[str, Any]:
        """Who it is, for the files."""
        data = run_folder.read_data(self.folder)
        return {
            "folder": str(self.folder),
            "name": self.experiment.name,
            "seed": self.seed,
            "backbone": self.experiment.backbone.describe(),
            "fingerprint": self.experiment.fingerprint(),
            "dataset": data.get("dataset"),
            "synthetic": bool(data.get("synthetic")),
            "manifest": self.data.manifest.hash,
        }
