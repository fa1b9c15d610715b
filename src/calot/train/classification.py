"""Classification by the criteria: the terms of the experiment's loss, selected by validation macro mAP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from torch import nn

from calot.criteria import CRITERIA
from calot.evaluation.attention import AnatomyAttention
from calot.evaluation.masks import MaskConfusion
from calot.evaluation.passes import Passes
from calot.evaluation.predict import PassObserver
from calot.statistics.metrics import mean_ap
from calot.train.losses import Loss
from calot.train.objective import EpochScores, Objective, ObjectiveSpec, Selection, TermMeter, TermValue
from calot.types import Batch, Outputs

if TYPE_CHECKING:
    from calot.models.classifier import Classifier

VAL_MAP = Selection(column="val_map", title="val mAP", percent=True)


@dataclass(frozen=True, kw_only=True)
class Classification(ObjectiveSpec):
    """The criteria's labels, by the experiment's loss."""

    def build(self, *, model: Classifier, loss: Loss) -> Objective:
        return ClassificationObjective(loss, reached=model.reached)


@dataclass(frozen=True)
class ClassificationObjective(Objective):
    """The loss's terms on what the model gives for a batch; scores are mAP, IoU of masks, attention on the anatomy."""

    loss: Loss
    reached: Callable[[frozenset[str]], frozenset[str]] = field(default=lambda parts: parts, compare=False)
    selection = VAL_MAP

    def terms(self, *, epoch: int) -> tuple[str, ...]:
        return tuple(term.name for term in self.loss.active(epoch=epoch))

    def acting(self, *, epoch: int) -> tuple[str, ...]:
        return tuple(name for name, weight in self.weights(epoch=epoch).items() if weight)

    def weights(self, *, epoch: int) -> dict[str, float]:
        return {term.name: term.weight_in(epoch=epoch) for term in self.loss.active(epoch=epoch)}

    def units(self, batch: Batch, *, epoch: int) -> dict[str, float]:
        return {term.name: term.loss.units(batch) for term in self.loss.active(epoch=epoch)}

    def step(self, model: nn.Module, batch: Batch, *, epoch: int) -> dict[str, TermValue]:
        return self.values(model(batch), batch, epoch=epoch)

    def values(self, outputs: Outputs, batch: Batch, *, epoch: int) -> dict[str, TermValue]:
        """The terms that have units in these clips."""
        found, weights = {}, self.weights(epoch=epoch)
        for term in self.loss.active(epoch=epoch):
            if (units := term.loss.units(batch)) > 0:
                found[term.name] = TermValue(term.loss(outputs, batch), units=units, weight=weights[term.name])
        return found

    @property
    def reaches(self) -> Mapping[str, frozenset[str]]:
        return {term.name: self.reached(term.loss.reaches) for term in self.loss.every_term()}

    def begun(self, *, epoch: int) -> bool:
        return self.loss.begun(epoch=epoch)

    def every_term(self) -> ClassificationObjective:
        return replace(self, loss=self.loss.from_the_start())

    def evaluate(self, model: nn.Module, passes: Passes, *, epoch: int) -> EpochScores:
        """Validation, and a clean pass in evaluation mode over a fixed subset of the training clips."""
        val_loss, clean_loss = (TermMeter(self.terms(epoch=epoch)) for _ in range(2))
        confusion, attention = MaskConfusion(), AnatomyAttention()

        val = passes.logits(model, _Terms(self, val_loss, epoch), confusion, attention)
        clean = passes.clean_logits(model, _Terms(self, clean_loss, epoch))
        val_map = mean_ap(passes.val.table.majority, val)
        clean_map = mean_ap(passes.clean.table.majority[passes.chosen], clean)
        columns = {
            "train_clean_loss": clean_loss.mean(),
            "train_clean_map": clean_map.value,
            "val_loss": val_loss.mean(),
            "val_map": val_map.value,
            **{f"val_ap_{c}": val_map.ap[c] for c in CRITERIA},
            **attention.columns(),
            **confusion.columns(),
        }
        if val_map.over_defined is None:
            raise ValueError("validation without a positive label selects no epoch; a run is refused before it trains")
        return EpochScores(val_map.over_defined, columns, logits=val, attention=tuple(attention.clips))


@dataclass(frozen=True)
class _Terms(PassObserver):
    """The objective's terms of each batch, into a meter."""

    objective: ClassificationObjective
    meter: TermMeter
    epoch: int

    def read(self, outputs: Outputs, batch: Batch) -> dict[str, TermValue]:
        values = self.objective.values(outputs, batch, epoch=self.epoch)
        return {name: replace(value, mean=value.mean.detach().cpu()) for name, value in values.items()}

    def take(self, found: dict[str, TermValue]) -> None:
        self.meter.add(found)
