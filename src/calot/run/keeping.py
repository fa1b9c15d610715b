"""What the loop gets for one stage of a run: its data, and the object that keeps its output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from calot.evaluation.passes import Passes
from calot.run import folder as run_folder
from calot.run.epoch_clips import EpochClips
from calot.train.objective import EpochScores
from calot.train.progress import Progress
from calot.train.stage import Stage
from calot.types import Batch
from calot.wall import spent_on

if TYPE_CHECKING:
    from calot.run.trainer import Trainer


@dataclass(frozen=True)
class StageData:
    """A trainer's clips as one stage trains on them, and the passes it is judged by."""

    trainer: Trainer
    stage: Stage

    @property
    def passes(self) -> Passes:
        """Validation and the clean training clips, read as the run's settings say."""
        return self.trainer.passes

    def batches(self, *, epoch: int, start: int) -> Iterator[Batch]:
        """An epoch's effective batches, prepared, from the `start`-th on."""
        return self.trainer.batches(self.stage, epoch=epoch, start=start)


@dataclass(frozen=True)
class StageKeeper:
    """A trainer's checkpoints, log and signals for one stage."""

    trainer: Trainer
    optimiser: torch.optim.Optimizer
    reporter: run_folder.Reporter = field(repr=False)

    def save(self, *, best: bool) -> None:
        """Write a checkpoint, as the best too when asked."""
        self.trainer.save(self.optimiser, best=best)

    @spent_on("saving")
    def clips(self, scores: EpochScores, *, best: bool) -> None:
        """Validation's predictions of every epoch that may be chosen, the best one's attention, and warnings said."""
        if not self.trainer.processes.first:
            return
        row, run = self.trainer.progress.rows[-1], self.trainer.checkpoints.run
        for warning in scores.warnings:
            self.trainer.ui.say(f"stage {row['stage']} epoch {row['epoch']}: {warning}")
        assert run is not None  # every trainer's checkpoints say whose they are
        kept = EpochClips(table=self.trainer.val_set.table, run=run, stage=row["stage"], epoch=row["epoch"])
        kept.write(self.trainer.request.folder, scores=scores, best=best)

    def due(self) -> bool:
        """Whether the last one was saved long enough ago."""
        return self.trainer.checkpoints.due()

    def report(self, progress: Progress, loss: float) -> None:
        """An occasional line."""
        self.reporter(progress, loss)

    def stop(self) -> bool:
        """Whether a signal came, to any process of the run."""
        self.trainer.stopping = self.trainer.processes.any(self.trainer.stopper.asked())
        return self.trainer.stopping
