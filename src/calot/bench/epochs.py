"""Epochs of a shipped experiment at tiny scale, trained by the real loop, for benches that time them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from calot.bench.side_by_side import ExactnessCheck
from calot.config.overrides import apply_overrides
from calot.experiment import scaled
from calot.experiments import find
from calot.phantom import PhantomSpec, generate
from calot.progress import Ui
from calot.run.data import OpenData
from calot.run.request import Request
from calot.run.signals import Stopper
from calot.run.trainer import Trainer
from calot.train.loop import Fit, fit_stage
from calot.train.progress import Progress


class Unkept:
    """A keeper that keeps nothing."""

    def save(self, *, best: bool) -> None:
        """Nothing is written."""

    def due(self) -> bool:
        return False

    def report(self, progress: Progress, loss: float) -> None:
        """Nothing is said."""

    def stop(self) -> bool:
        return False


@dataclass
class Epochs:
    """A trainer of an experiment; each call trains its first stage for some epochs (one) and scores validation."""

    trainer: Trainer
    fit: Fit

    @classmethod
    def of(
        cls,
        name: str,
        *,
        root: Path,
        scratch: Path,
        changes: Sequence[str] = (),
        caches: bool = False,
        seed: int = 0,
        epochs: int = 1,
    ) -> Epochs:
        """On a data set, with what is decoded below `scratch`; `caches` as in a run."""
        found = find(name)
        experiment = apply_overrides(scaled(found.experiment, "tiny"), [*changes, f"compute.cache={scratch / 'cache'}"])
        request = Request(
            found=found, experiment=experiment, scale="tiny", data=root, folder=scratch / "run", seed=seed
        )
        data = OpenData.of(root, experiment=experiment, ui=Ui())
        trainer = Trainer.start(request, data=data, ui=Ui(), stopper=Stopper())
        torch.manual_seed(0)
        trainer.caches = caches
        stage = replace(experiment.train, epochs=epochs)
        return cls(trainer, replace(trainer.fit(stage), stage=stage, keeper=Unkept()))

    @property
    def work(self) -> str:
        """What a call does, in words."""
        found = self.settings
        epochs = "an epoch" if self.fit.stage.epochs == 1 else f"{self.fit.stage.epochs} epochs"
        return f"train {epochs} of {found['experiment']} on {found['clips']} clips and score {found['val_clips']}"

    @property
    def settings(self) -> dict[str, Any]:
        """The experiment, and how many clips it trains on and scores."""
        trainer = self.trainer
        name = trainer.request.experiment.name
        return {"experiment": name, "clips": len(trainer.train_set), "val_clips": len(trainer.val_set)}

    def __call__(self) -> None:
        self.trainer.progress, self.trainer.observer = Progress(), self.fit.observer
        fit_stage(self.fit, self.trainer.progress)


def same_epochs(one: Epochs, other: Epochs) -> tuple[ExactnessCheck, ...]:
    """One epoch each from equal weights: the weights and scores that follow."""
    one()
    other()
    sides = [dict(e.trainer.model.named_parameters()) for e in (one, other)]
    off = max(float((sides[0][n] - sides[1][n]).detach().abs().max()) for n in sides[0])
    column = one.trainer.objective.selection.column
    scores = [float(e.trainer.progress.rows[0][column]) for e in (one, other)]
    return (
        ExactnessCheck(what="weights after an epoch", difference=off, tolerance=0.0),
        ExactnessCheck(what=f"{column} after it", difference=abs(scores[0] - scores[1]), tolerance=0.0),
    )


@contextmanager
def footage_folder(data: Path | None, *, frames: int) -> Iterator[tuple[Path, Path]]:
    """A data set with masks, by default a phantom of about `frames` frames, and a place for what is decoded."""
    with tempfile.TemporaryDirectory(prefix="calot_bench_", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        if data is None:
            videos = max(6, frames // 60)
            spec = PhantomSpec(videos=videos, seed=3, mean_frames=60.0, min_frames=50, max_frames=70)
            with Ui().task("phantom to train on") as advance:
                generate(scratch / "phantom", spec=spec, workers=min(2, os.cpu_count() or 1), progress=advance)
        yield data or scratch / "phantom", scratch
