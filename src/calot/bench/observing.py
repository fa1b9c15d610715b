"""What it costs to look on: epochs of training and validation with the run's observer, against the same without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from calot.bench.epochs import Epochs, footage_folder, same_epochs
from calot.bench.side_by_side import Contest, Outcome, compete, one_torch_thread
from calot.receipts.watching import RunObserver

#: With it they take at most 2 % longer.
TARGET = 0.98
NAME = "e12_regularized"
#: Each term's gradient is read once in a hundred batches, but in the first epoch always: three epochs have it once.
EPOCHS = 3


def bench_observing(
    *,
    data: Path | None = None,
    frames: int = 1000,
    epochs: int = EPOCHS,
    repeats: int = 3,
    protocol: str = "AllFrames()",
) -> Outcome:
    """`e12_regularized` at tiny scale, on the frames of a data set or of a phantom of about `frames` frames."""
    with footage_folder(data, frames=frames) as (root, scratch), one_torch_thread():
        without, looking = (
            Epochs.of(NAME, root=root, scratch=scratch, changes=[f"protocol={protocol}"], epochs=epochs)
            for _ in range(2)
        )
        trainer = looking.trainer
        looking.fit = replace(
            looking.fit, observer=RunObserver(trainer.request.experiment, trainer.train_set, trainer.val_set)
        )
        return compete(
            Contest(
                bench="observing",
                work=looking.work,
                naive_way="nobody looks",
                our_way="receipts.watching.RunObserver looks on",
                target=TARGET,
                repeats=repeats,
                plain=False,
                checks=lambda: same_epochs(without, looking),
                naive=without,
                ours=looking,
                settings=looking.settings,
            )
        )
