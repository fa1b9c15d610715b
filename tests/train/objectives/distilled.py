"""Does a student learn the criteria from another run's logits as well as from the labels?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from calot.experiments import e02_frozen_probe
from calot.models.classifier import Classifier
from calot.pipeline import load_run
from calot.train.classification import ClassificationObjective
from calot.train.losses import Loss
from calot.train.objective import Objective, ObjectiveSpec, TermValue
from calot.types import CRITERIA_HEAD, Batch


@dataclass(frozen=True, kw_only=True)
class Distilled(ObjectiveSpec):
    """The experiment's loss, and the squared distance to the logits of the run in `teacher`."""

    teacher: str

    def build(self, *, model: Classifier, loss: Loss) -> Objective:
        return DistilledObjective(loss, teacher=Path(self.teacher))


@dataclass(frozen=True)
class DistilledObjective(ClassificationObjective):
    teacher: Path = Path()

    @cached_property
    def _model(self) -> nn.Module:
        return load_run(self.teacher)[1].requires_grad_(False).eval()

    @property
    def reaches(self) -> dict[str, frozenset[str]]:
        return {**super().reaches, "teacher": frozenset({"backbone", "pooling", CRITERIA_HEAD})}

    def terms(self, *, epoch: int) -> tuple[str, ...]:
        return (*super().terms(epoch=epoch), "teacher")

    def units(self, batch: Batch, *, epoch: int) -> dict[str, float]:
        return {**super().units(batch, epoch=epoch), "teacher": float(len(batch))}

    def step(self, model: nn.Module, batch: Batch, *, epoch: int) -> dict[str, TermValue]:
        outputs = model(batch)
        with torch.no_grad():
            wanted = self._model(batch).scores[CRITERIA_HEAD]
        distance = F.mse_loss(outputs.scores[CRITERIA_HEAD], wanted)
        return {
            **self.values(outputs, batch, epoch=epoch),
            "teacher": TermValue(distance, units=float(len(batch)), weight=0.5),
        }


TEACHER = (Path(__file__).parent / "teacher").as_posix()

experiment = replace(
    e02_frozen_probe.experiment, name="distilled", baseline="e02_frozen_probe", objective=Distilled(teacher=TEACHER)
)
