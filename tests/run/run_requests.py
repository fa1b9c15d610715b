"""Runs of seconds on the small phantom, asked for in one line."""

from __future__ import annotations

import hashlib
from pathlib import Path

from calot.experiment import scaled
from calot.experiments import find
from calot.progress import Ui
from calot.run.line import train_run
from calot.run.opened import OpenData
from calot.run.request import Request
from calot.run.session import Session
from calot.run.signals import Stopper
from calot.values import apply_overrides

QUICK = ("train.epochs=2", "train.batch=8", "train.warmup=0.5", "compute.train_subset=8")


def requested(
    phantom: Path, folder: Path, name: str = "e00_finetune", *, changes: tuple[str, ...] = (), seed: int = 0
) -> Request:
    """A quick run of a shipped experiment, with changes."""
    found = find(name)
    experiment = apply_overrides(scaled(found.experiment, "tiny"), [*QUICK, *changes])
    return Request(
        found=found, experiment=experiment, scale="tiny", data=phantom, folder=folder, seed=seed, receipt=False
    )


def trained(request: Request, stopper: Stopper | None = None) -> Path:
    """Train it; returns the run's folder."""
    return train_run(request, ui=Ui(), stopper=stopper or Stopper())


class StopAfter(Stopper):
    """Asks for an end after some steps, as a signal would."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def asked(self) -> bool:
        self.left -= 1
        return self.left <= 0


def digests(folder: Path) -> dict[str, str]:
    """What a repeated run must equal byte for byte: weights, metrics, predictions."""
    names = [
        "metrics.csv",
        "predictions/val.parquet",
        "checkpoints/best/model.safetensors",
        "checkpoints/last/model.safetensors",
    ]
    return {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names}


def session(phantom: Path, folder: Path, *changes: str, name: str = "e00_finetune") -> Session:
    """A quick run without dropout, opened and not begun."""
    request = requested(phantom, folder, name, changes=("head.dropout=0.0", "pooling.dropout=0.0", *changes))
    data = OpenData.of(request.data, experiment=request.experiment, ui=Ui())
    return Session.start(request, data=data, ui=Ui(), stopper=Stopper())
