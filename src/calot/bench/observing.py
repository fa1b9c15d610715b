"""What it costs to look on: an epoch of training and validation with the run's observer, against the same without."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from calot.bench.side_by_side import Contest, ExactnessCheck, Outcome, compete, one_torch_thread
from calot.config.overrides import apply_overrides
from calot.experiment import scaled
from calot.experiments import find
from calot.phantom import PhantomSpec, generate
from calot.progress import Ui
from calot.receipts.watching import RunObserver
from calot.run.data import OpenData
from calot.run.request import Request
from calot.run.signals import Stopper
from calot.run.trainer import Trainer
from calot.train.loop import fit_stage
from calot.train.observer import Observer
from calot.train.progress import Progress

#: An epoch with it takes at most 2 % longer.
TARGET = 0.98
NAME = "e12_regularized"


class _Unkept:
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
class _Epochs:
    """A trainer of the experiment; each call trains one epoch of its first stage, and scores validation."""

    trainer: Trainer
    observer: Observer

    def __call__(self) -> None:
        trainer = self.trainer
        trainer.progress, trainer.observer = Progress(), self.observer
        stage = replace(trainer.request.experiment.train, epochs=1)
        fit_stage(replace(trainer.fit(stage), keeper=_Unkept(), observer=self.observer), trainer.progress)


def bench_observing(
    *, data: Path | None = None, frames: int = 1000, repeats: int = 5, protocol: str = "AllFrames()"
) -> Outcome:
    """`e12_regularized` at tiny scale, on the frames of a data set or of a phantom of about `frames` frames."""
    with _folder(data, frames=frames) as (root, scratch), one_torch_thread():
        without, looking = (
            _epochs(root, folder=scratch / name, looking=name == "ours", protocol=protocol)
            for name in ("naive", "ours")
        )
        clips, val = len(looking.trainer.train_set), len(looking.trainer.val_set)
        return compete(
            Contest(
                bench="observing",
                work=f"train an epoch of {NAME} on {clips} clips and score {val}",
                naive_way="nobody looks",
                our_way="receipts.watching.RunObserver looks on",
                target=TARGET,
                repeats=repeats,
                checks=lambda: _same(without, looking),
                naive=without,
                ours=looking,
                settings={"experiment": NAME, "clips": clips, "val_clips": val},
            )
        )


def _same(without: _Epochs, looking: _Epochs) -> tuple[ExactnessCheck, ...]:
    """One epoch each from equal weights: the weights and scores that follow."""
    without()
    looking()
    sides = [dict(e.trainer.model.named_parameters()) for e in (without, looking)]
    off = max(float((sides[0][n] - sides[1][n]).detach().abs().max()) for n in sides[0])
    column = without.trainer.objective.selection.column
    scores = [float(e.trainer.progress.rows[0][column]) for e in (without, looking)]
    return (
        ExactnessCheck(what="weights after an epoch", difference=off, tolerance=0.0),
        ExactnessCheck(what=f"{column} after it", difference=abs(scores[0] - scores[1]), tolerance=0.0),
    )


def _epochs(root: Path, *, folder: Path, looking: bool, protocol: str) -> _Epochs:
    found = find(NAME)
    experiment = apply_overrides(
        scaled(found.experiment, "tiny"), [f"protocol={protocol}", f"compute.cache={folder.parent / 'cache'}"]
    )
    request = Request(found=found, experiment=experiment, scale="tiny", data=root, folder=folder, seed=0)
    data = OpenData.of(root, experiment=experiment, ui=Ui())
    trainer = Trainer.start(request, data=data, ui=Ui(), stopper=Stopper())
    torch.manual_seed(0)
    observer = RunObserver(experiment, trainer.train_set, trainer.val_set) if looking else Observer()
    return _Epochs(trainer, observer)


@contextmanager
def _folder(data: Path | None, *, frames: int) -> Iterator[tuple[Path, Path]]:
    """A data set with masks, and a place for what is decoded."""
    with tempfile.TemporaryDirectory(prefix="calot_bench_", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        if data is None:
            videos = max(6, frames // 60)
            spec = PhantomSpec(videos=videos, seed=3, mean_frames=60.0, min_frames=50, max_frames=70)
            with Ui().task("phantom to train on") as advance:
                generate(scratch / "phantom", spec=spec, workers=min(2, os.cpu_count() or 1), progress=advance)
        yield data or scratch / "phantom", scratch
