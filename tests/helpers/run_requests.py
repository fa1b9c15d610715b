"""Runs of seconds on the small phantom, asked for in one line."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from calot.config.overrides import apply_overrides
from calot.experiment import scaled
from calot.experiments import find
from calot.pipeline import train_run
from calot.progress import Ui
from calot.run.data import OpenData
from calot.run.request import Request
from calot.run.signals import Stopper
from calot.run.trainer import Trainer
from calot.train.loop import optimise
from calot.train.progress import Progress
from calot.types import Batch

QUICK = ("train.epochs=2", "train.batch=8", "train.warmup=0.5", "compute.train_subset=8")
#: A pretraining, and the changes that make it as small as one can be.
P01 = "p01_masked_prediction"
SMALL_PRETRAINING = (
    *("backbone.weights=None", "backbone.size=32", "backbone.frames=4", "clip.length=4", "backbone.layers=2"),
    "backbone.predictor.layers=1",
)


def beside(quick: tuple[str, ...], changes: tuple[str, ...]) -> list[str]:
    """The changes, and of the quick ones those whose field they leave alone: no field may be given twice."""
    own = {change.partition("=")[0] for change in changes}
    return [*(one for one in quick if one.partition("=")[0] not in own), *changes]


def requested(
    phantom: Path, folder: Path, name: str = "e00_finetune", *, changes: tuple[str, ...] = (), seed: int = 0
) -> Request:
    """A quick run of a shipped experiment, with changes."""
    found = find(name)
    experiment = apply_overrides(scaled(found.experiment, "tiny"), beside(QUICK, changes))
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
    """What a repeated run must equal byte for byte: weights, metrics, predictions of the best epoch and of each."""
    names = [
        "metrics.csv",
        "predictions/val.parquet",
        "checkpoints/best/model.safetensors",
        "checkpoints/last/model.safetensors",
        *(str(path.relative_to(folder)) for path in sorted(folder.glob("epochs/*.parquet"))),
    ]
    return {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names}


def trainer(phantom: Path, folder: Path, *changes: str, name: str = "e00_finetune") -> Trainer:
    """A quick run without dropout, opened and not begun."""
    asked = requested(phantom, folder, name, changes=changes)
    parts = {part: getattr(asked.experiment, part).without_dropout() for part in ("head", "pooling")}
    request = replace(asked, experiment=replace(asked.experiment, **parts))
    data = OpenData.of(request.data, experiment=request.experiment, ui=Ui())
    return Trainer.start(request, data=data, ui=Ui(), stopper=Stopper())


def in_float64(trainer: Trainer) -> Trainer:
    """The trainer in float64, with adapters that are no identity any more."""
    generator = torch.Generator().manual_seed(0)
    for stage in trainer.request.experiment.stages:
        trainer.groups(stage)
    trainer.model.double()
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return trainer


def without_chance(trainer: Trainer) -> Trainer:
    """The same with no dropout or drop path left."""
    for module in in_float64(trainer).model.modules():
        for name in ("p", "dropout", "drop_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return trainer


def in_double(batch: Batch) -> Batch:
    """An effective batch as a float64 model takes it."""
    masks = batch.masks and replace(batch.masks, weight=batch.masks.weight.double())
    return replace(batch, labels=batch.labels.double(), masks=masks)


@dataclass(frozen=True)
class Step:
    """What one optimiser step did: the effective loss by term, and each trained parameter's gradient and new value."""

    terms: dict[str, float]
    gradients: dict[str, Tensor]
    values: dict[str, Tensor]

    def distance(self, other: Step) -> float:
        """The largest difference anywhere; infinite where one has what the other lacks."""
        pairs = [(self.terms, other.terms), (self.gradients, other.gradients), (self.values, other.values)]
        if any(a.keys() != b.keys() for a, b in pairs):
            return math.inf
        return max(float((torch.as_tensor(a[k]) - b[k]).abs().max()) for a, b in pairs for k in a)


def step_of(trainer: Trainer, batch: Batch, *, micro_batch: int | None, stage: int = 0, epoch: int = 1) -> Step:
    """One step of the real loop on an effective batch as it is; the model is then put back where it was."""
    model, progress = trainer.model, Progress(stage=stage, epoch=epoch)
    trainer.progress = progress
    fit = replace(trainer.fit(trainer.request.experiment.stages[stage]), micro_batch=micro_batch)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    gradients: dict[str, Tensor] = {}
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    fit.optimiser.optimizer.register_step_pre_hook(
        lambda *_: gradients.update({n: p.grad.clone() for n, p in trained.items() if p.grad is not None})
    )
    model.train()
    torch.manual_seed(0)
    optimise(fit, batch, progress=progress)
    values = {n: p.detach().clone() for n, p in trained.items()}
    model.load_state_dict(before)
    return Step({name: total for name, (total, _) in progress.terms.items()}, gradients, values)
