"""Masked latent prediction, V-JEPA 2's pretraining (Assran et al. 2025, eq. 1; Bardes et al. 2024, sec. 3.1).

Of each kind k of mask, with encoder E, predictor P, teacher T, hidden tokens y and visible ones x of a clip v:
loss = mean over k of mean |P(E(x), places of y) - LayerNorm(T(v))[y]|, LayerNorm without weights, no gradient through
T; after each step, T = m T + (1 - m) E. The mean is over clips, hidden tokens and features, as in the official code.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from calot.config.fields import Fraction, Range
from calot.evaluation.passes import Passes
from calot.models.adaptation import FullFineTune
from calot.models.backbones.protocol import FRESH, PREDICTOR, Backbone, BackboneSpec
from calot.models.classifier import Classifier
from calot.pretraining.collapse import FeatureMeter
from calot.pretraining.hiding import GuidedMeter, hidden_in_training, hidden_in_validation
from calot.pretraining.masks import LONG_RANGE, SHORT_RANGE, MultiBlock
from calot.train.losses import Loss
from calot.train.objective import EpochScores, Objective, ObjectiveSpec, Selection, TermMeter, TermValue
from calot.train.stage import Stage
from calot.types import Batch, Predicted, at_least_float32

LOWEST_VAL_LOSS = Selection(column="val_loss", title="val loss", higher_is_better=False)
LAST_EPOCH = Selection(column="epoch", title="epoch")


@dataclass(frozen=True, kw_only=True)
class MaskedPrediction(ObjectiveSpec):
    """Predicts the teacher's features of hidden tokens; labels are never read.

    `masks`: what is hidden. Where a kind among them reads segmentation masks, clips travel with theirs, and metrics.csv
    has the shares of clips whose blocks they placed (`train_guided`, `val_guided`).
    `momentum`: the teacher's share of itself in each step, constant as in V-JEPA 2; from `first_momentum` on it grows
    evenly over `ramp_steps` optimiser steps. `distance`: mean |difference|, as published, or smooth L1.
    `stop_gradient` False: the targets are the encoder's own, with gradient, in place of a teacher's. Features then
    collapse to a constant, for which the monitors are there.
    `keep`: which epoch's weights are the result. V-JEPA 2 keeps the last. The loss rises again once the teacher's
    features tell more apart, as they are then harder to guess, so that its lowest value may be of poor features.
    """

    reads_labels: ClassVar[bool] = False

    masks: tuple[MultiBlock, ...] = (SHORT_RANGE, LONG_RANGE)
    distance: Literal["l1", "smooth l1"] = "l1"
    momentum: Fraction = 0.99925
    first_momentum: Fraction | None = None
    ramp_steps: Annotated[int, Range(ge=1, le=100_000_000)] = 10_000
    stop_gradient: bool = True
    keep: Literal["lowest val loss", "last epoch"] = "lowest val loss"

    def __post_init__(self) -> None:
        names = [kind.name for kind in self.masks]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"masks={names}: needs at least one kind, each with a name of its own")
        if not self.stop_gradient and (self.momentum or self.first_momentum):
            raise ValueError("stop_gradient=False needs momentum=0: without it the targets are not a teacher's")

    @property
    def reads_masks(self) -> bool:
        return any(kind.reads_masks for kind in self.masks)

    def idle(self) -> tuple[str, ...]:
        return ("ramp_steps",) if self.first_momentum is None else ()

    def momentum_at(self, step: int) -> float:
        """The momentum after the optimiser step of this number, from 0."""
        first = self.momentum if self.first_momentum is None else self.first_momentum
        return first + (self.momentum - first) * min(1.0, step / self.ramp_steps)

    def unfit(self, *, backbone: BackboneSpec, stages: Sequence[Stage]) -> str | None:
        if not backbone.predicts:
            return f"objective=MaskedPrediction: {backbone.unpredictable}"
        if apart := next((s.score_every for s in stages if s.score_every != 1), None):
            return f"train.score_every={apart}: a pretraining is watched for collapse after every epoch; leave it at 1"
        other = next((s.adaptation for s in stages if not isinstance(s.adaptation, FullFineTune)), None)
        if other is None:
            return None
        return f"adaptation={type(other).__name__}: MaskedPrediction trains the whole encoder; take FullFineTune"

    def build(self, *, model: Classifier, loss: Loss) -> Objective:
        for kind in self.masks:
            kind.require(model.backbone.spec.grid)
        return MaskedPredictionObjective(self, model.backbone)


def teacher_of(backbone: Backbone) -> Backbone:
    """A copy of the encoder, without its predictor, in which nothing trains."""
    copied = copy.deepcopy(backbone).requires_grad_(False).eval()
    parts = dict(copied.model.named_children()).get(FRESH, nn.ModuleDict())
    if PREDICTOR in parts:
        del parts[PREDICTOR]
    return copied


class MaskedPredictionObjective(Objective):
    """One term for each kind of mask; the teacher and the number of steps made are its own tensors."""

    def __init__(self, spec: MaskedPrediction, backbone: Backbone) -> None:
        self.spec, self.grid = spec, backbone.spec.grid
        self.selection = LAST_EPOCH if spec.keep == "last epoch" else LOWEST_VAL_LOSS
        self.teacher = teacher_of(backbone)
        self.steps = 0
        self.guided = GuidedMeter()

    @property
    def reaches(self) -> Mapping[str, frozenset[str]]:
        return dict.fromkeys(self.terms(epoch=0), frozenset({"backbone"}))

    def terms(self, *, epoch: int) -> tuple[str, ...]:
        return tuple(kind.name for kind in self.spec.masks)

    def weights(self, *, epoch: int) -> dict[str, float]:
        return dict.fromkeys(self.terms(epoch=epoch), 1 / len(self.spec.masks))

    def units(self, batch: Batch, *, epoch: int) -> dict[str, float]:
        return dict.fromkeys(self.terms(epoch=epoch), float(len(batch)))

    def prepared(self, batch: Batch, *, where: Sequence[int]) -> Batch:
        self.guided.add(batch.masks, grid=self.grid)
        return hidden_in_training(batch, kinds=self.spec.masks, grid=self.grid, where=where)

    def step(self, model: nn.Module, batch: Batch, *, epoch: int) -> dict[str, TermValue]:
        predicted: Predicted = model(batch)
        wanted = self.targets(model, batch, like=next(iter(predicted.values.values())))
        found = {}
        for name, weight in self.weights(epoch=epoch).items():
            places = batch.hidden[name].targets[..., None].expand(-1, -1, wanted.shape[-1])
            mean = self._distance(at_least_float32(predicted.values[name]), wanted.gather(1, places))
            found[name] = TermValue(mean, units=float(len(batch)), weight=weight)
        return found

    def targets(self, model: nn.Module, batch: Batch, *, like: Tensor) -> Float[Tensor, "b n d"]:
        """Features of every token of whole clips, normalised over the features; in the precision of `like`."""
        if self.spec.stop_gradient:
            with torch.no_grad(), torch.autocast(like.device.type, dtype=like.dtype, enabled=like.dtype.itemsize < 4):
                tokens = self.teacher(batch.video).values
        else:
            tokens = model(replace(batch, hidden={})).tokens.values
        tokens = at_least_float32(tokens)
        return F.layer_norm(tokens, tokens.shape[-1:])

    @torch.no_grad()
    def after_step(self, model: nn.Module) -> None:
        momentum = self.spec.momentum_at(self.steps)
        theirs = dict(model.get_submodule("backbone").named_parameters())
        for name, own in self.teacher.named_parameters():
            own.mul_(momentum).add_(theirs[name], alpha=1 - momentum)
        self.steps += 1

    @torch.no_grad()
    def evaluate(self, model: nn.Module, passes: Passes, *, epoch: int) -> EpochScores:
        """The loss under masks that are the same in every epoch and run, and the monitors of whole clips."""
        model.eval()
        terms, features, guided = TermMeter(self.terms(epoch=epoch)), FeatureMeter(), GuidedMeter()
        for batch in passes.val_batches(passes.processes.block(len(passes.val))):
            guided.add(batch.masks, grid=self.grid)
            for part in hidden_in_validation(batch, kinds=self.spec.masks, grid=self.grid, val=passes.val):
                terms.add(self.step(model, part, epoch=epoch))
            features.add(model(batch).tokens.values, self.teacher(batch.video).values)
        (terms, features, guided), *others = passes.processes.gather([(terms, features, guided)])
        for their_terms, their_features, their_guided in others:
            terms.join(their_terms)
            features.join(their_features)
            guided.join(their_guided)
        seen, loss = features.monitors(), terms.mean()
        each = {f"val_{name}": terms.sums[name] / terms.units[name] for name in terms.sums}
        warnings = () if seen.collapse is None else (f"collapse: {seen.collapse}",)
        kept_by = float(epoch + 1) if self.selection == LAST_EPOCH and math.isfinite(loss) else loss
        columns = {"val_loss": loss, **each, **seen.columns()}
        if self.spec.reads_masks:
            columns |= {"train_guided": self.guided.share, "val_guided": guided.share}
            self.guided = GuidedMeter()
        return EpochScores(kept_by, columns, warnings=warnings)

    def state_dict(self) -> dict[str, Tensor]:
        teacher = {f"teacher.{name}": tensor for name, tensor in self.teacher.state_dict().items()}
        guided = torch.tensor([self.guided.guided, self.guided.clips])  # of the epoch under way
        return {**teacher, "steps": torch.tensor(self.steps), **({"guided": guided} if self.spec.reads_masks else {})}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> Any:
        self.steps = int(tensors["steps"])
        if "guided" in tensors:
            self.guided = GuidedMeter(*tensors["guided"].tolist())
        prefix = "teacher."
        own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        self.teacher.load_state_dict(own)

    def _distance(self, found: Tensor, wanted: Tensor) -> Tensor:
        return F.l1_loss(found, wanted) if self.spec.distance == "l1" else F.smooth_l1_loss(found, wanted)
