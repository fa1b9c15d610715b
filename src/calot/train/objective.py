"""What a run learns, as the loop asks for it: terms of a step, scores of an epoch, and which epoch is the best.

The loop knows no labels, masks, criteria or metrics. Classification (`classification.py`) is the first objective;
pretraining and distillation are others. A new one is one file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from calot.config.component import Component
from calot.evaluation.attention import ClipAttention
from calot.evaluation.passes import Passes
from calot.types import Batch

if TYPE_CHECKING:
    from calot.models.backbones.protocol import BackboneSpec
    from calot.models.classifier import Classifier
    from calot.train.losses import Loss
    from calot.train.stage import Stage


@dataclass(frozen=True)
class TermValue:
    """One term over some clips: its mean with gradient, what the mean runs over, and its weight in the step."""

    mean: Float[Tensor, ""]
    units: float
    weight: float = 1.0


@dataclass(frozen=True)
class Selection:
    """What the best epoch is chosen by: a column of metrics.csv, its name for people, and which way is better."""

    column: str
    title: str
    higher_is_better: bool = True
    percent: bool = False

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value is better than the best so far, if there is one."""
        return than is None or (value > than if self.higher_is_better else value < than)

    def shown(self, value: float) -> str:
        """A value as people read it."""
        return f"{100 * value:.1f}" if self.percent else f"{value:.4g}"


@dataclass(frozen=True)
class EpochScores:
    """What an epoch ends with: the value that selects the best one, and columns for metrics.csv.

    `logits` (n, k) are those of validation's clips in order, `attention` what clips with anatomy on their masks
    showed; both are kept beside the run where an objective gives them. `warnings` are said at the end of the epoch.
    """

    value: float
    columns: dict[str, float | None]
    logits: NDArray[np.float32] | None = None
    attention: tuple[ClipAttention, ...] = ()
    warnings: tuple[str, ...] = ()


class Objective(ABC):
    """A step's terms and an epoch's scores. Models are called, never inspected, so that a wrapper sees each call.

    loss = sum over terms of weight * sum_i units_i * mean_i / sum_j units_j over the parts i of an effective batch, so
    that the way it is cut cannot matter; `units` must add up over parts. Epochs are counted from 0.
    """

    selection: Selection

    @abstractmethod
    def terms(self, *, epoch: int) -> tuple[str, ...]:
        """The names of the terms that act in an epoch."""

    def acting(self, *, epoch: int) -> tuple[str, ...]:
        """Those of them that can change a step: a term without weight cannot."""
        return self.terms(epoch=epoch)

    def weights(self, *, epoch: int) -> dict[str, float]:
        """The weight in an epoch of each term that acts in it."""
        return dict.fromkeys(self.terms(epoch=epoch), 1.0)

    def prepared(self, batch: Batch, *, where: Sequence[int]) -> Batch:
        """A whole effective batch with what is drawn for its clips, before it is cut into parts. `where` is its place
        in the run: seed, stage, epoch, and its first clip's place in the epoch's order."""
        return batch

    @abstractmethod
    def units(self, batch: Batch, *, epoch: int) -> dict[str, float]:
        """What each of these terms' mean runs over in some clips; known before a model sees them."""

    @abstractmethod
    def step(self, model: nn.Module, batch: Batch, *, epoch: int) -> dict[str, TermValue]:
        """The terms of some clips in training mode; one without units may be left out."""

    @abstractmethod
    def evaluate(self, model: nn.Module, passes: Passes, *, epoch: int) -> EpochScores:
        """Score the model after an epoch."""

    @property
    @abstractmethod
    def reaches(self) -> Mapping[str, frozenset[str]]:
        """By term, the parts of the model that get gradient from it (the backbone where something of it trains)."""

    def begun(self, *, epoch: int) -> bool:
        """Whether an epoch may be chosen as the best: not before every term acts."""
        return True

    def every_term(self) -> Objective:
        """The same with every term acting from the first epoch on."""
        return self

    def after_step(self, model: nn.Module) -> None:  # noqa: B027  # nothing follows, unless an objective says so
        """What follows an optimiser step that was made, such as a moving average; `model` is without wrappers."""

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors of its own that checkpoints must hold."""
        return {}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> Any:  # noqa: B027  # nothing, where there is no state
        """Take back what `state_dict` gave."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec(Component, ABC):
    """Settings of an objective; `build` gives the objective itself, for a model and the experiment's loss.

    One that reads no labels trains on clips without any, and its runs have no predictions: nothing trained the
    criteria's head.
    """

    reads_labels: ClassVar[bool] = True

    @property
    def reads_masks(self) -> bool:
        """Whether its clips must travel with their segmentation masks, whatever the loss and the heads read."""
        return False

    def unfit(self, *, backbone: BackboneSpec, stages: Sequence[Stage]) -> str | None:
        """Why it cannot train a backbone in these stages, if so; asked before anything is built."""
        return None

    @abstractmethod
    def build(self, *, model: Classifier, loss: Loss) -> Objective:
        """The objective of one stage, from its first step."""


def shares(values: Mapping[str, TermValue], *, units: Mapping[str, float]) -> dict[str, Tensor]:
    """A part's share of each term of its effective batch, whose units are given; the shares of all parts add up."""
    return {name: v.weight * v.units / units[name] * v.mean for name, v in values.items() if v.units > 0}


def total_units(objective: Objective, parts: Sequence[Batch], *, epoch: int) -> dict[str, float]:
    """What each term's mean runs over in an effective batch given in parts."""
    each = [objective.units(part, epoch=epoch) for part in parts]
    return {name: sum(units[name] for units in each) for name in objective.terms(epoch=epoch)}


class TermMeter:
    """The mean of each term over all the clips it is shown, weighted by units."""

    def __init__(self, terms: Sequence[str]) -> None:
        self.sums = dict.fromkeys(terms, 0.0)
        self.units = dict.fromkeys(terms, 0.0)
        self.weights: dict[str, float] = {}

    def add(self, values: Mapping[str, TermValue]) -> None:
        for name, value in values.items():
            if value.units > 0:
                self.sums[name] += value.units * float(value.mean)
                self.units[name] += value.units
                self.weights[name] = value.weight

    def join(self, other: TermMeter) -> None:
        """Add what another was shown."""
        for name in self.sums:
            self.sums[name] += other.sums[name]
            self.units[name] += other.units[name]
        self.weights |= other.weights

    def mean(self) -> float:
        """The weighted sum of the terms' means; a term without units adds nothing."""
        met = [name for name in self.sums if name in self.weights]
        return sum(self.weights[name] * self.sums[name] / self.units[name] for name in met)


#: How a checkpoint marks an objective's own tensors.
_OWN = "objective."


def with_own_tensors(objective: Objective, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's tensors and, beside them, the objective's."""
    own = {_OWN + name: t.detach().cpu().contiguous() for name, t in objective.state_dict().items()}
    return {**tensors, **own}


def own_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The objective's tensors of a checkpoint, by its own names."""
    return {name.removeprefix(_OWN): t for name, t in tensors.items() if name.startswith(_OWN)}


def model_tensors_alone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's tensors without the objective's."""
    return {name: t for name, t in tensors.items() if not name.startswith(_OWN)}
