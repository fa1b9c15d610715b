"""Can the encoder learn from video alone? Its teacher is its own moving average, and no label is read."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calot.config.fields import FractionBelowOne
from calot.evaluation.passes import Passes
from calot.experiments import e00_finetune
from calot.models.classifier import Classifier
from calot.train.losses import Loss
from calot.train.objective import EpochScores, Objective, ObjectiveSpec, Selection, TermValue
from calot.types import Batch


@dataclass(frozen=True, kw_only=True)
class OwnTeacher(ObjectiveSpec):
    """The tokens of a clip whose right half is hidden, against a moving average's tokens of the whole clip."""

    reads_labels: ClassVar[bool] = False

    decay: FractionBelowOne = 0.9

    def build(self, *, model: Classifier, loss: Loss) -> Objective:
        return OwnTeacherObjective(copy.deepcopy(model).requires_grad_(False).eval(), self.decay)


class OwnTeacherObjective(Objective):
    selection = Selection(column="val_loss", title="val loss", higher_is_better=False)

    def __init__(self, teacher: nn.Module, decay: float) -> None:
        self.teacher, self.decay = teacher, decay

    @property
    def reaches(self) -> dict[str, frozenset[str]]:
        return {"tokens": frozenset({"backbone"})}

    def terms(self, *, epoch: int) -> tuple[str, ...]:
        return ("tokens",)

    def units(self, batch: Batch, *, epoch: int) -> dict[str, float]:
        return {"tokens": float(len(batch))}

    def step(self, model: nn.Module, batch: Batch, *, epoch: int) -> dict[str, TermValue]:
        hidden = batch.video.clone()
        hidden[..., hidden.shape[-1] // 2 :] = 0
        with torch.no_grad():
            wanted = self.teacher(batch).tokens.values
        found = model(replace(batch, video=hidden)).tokens.values
        return {"tokens": TermValue(F.smooth_l1_loss(found, wanted), units=float(len(batch)))}

    @torch.no_grad()
    def after_step(self, model: nn.Module) -> None:
        for own, theirs in zip(self.teacher.parameters(), model.parameters(), strict=True):
            own.lerp_(theirs, 1 - self.decay)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, passes: Passes, *, epoch: int) -> EpochScores:
        model.eval()
        values = [self.step(model, batch, epoch=epoch)["tokens"] for batch in passes.val_batches()]
        mean = sum(v.units * float(v.mean) for v in values) / sum(v.units for v in values)
        return EpochScores(mean, {"val_loss": mean})

    def state_dict(self) -> dict[str, Tensor]:
        return {f"teacher.{name}": tensor for name, tensor in self.teacher.state_dict().items()}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> Any:
        self.teacher.load_state_dict({name.removeprefix("teacher."): t for name, t in tensors.items()})


experiment = replace(e00_finetune.experiment, name="ema_teacher", baseline=None, objective=OwnTeacher())
