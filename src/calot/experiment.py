"""An experiment is a frozen value that names its baseline and its difference; here are the value and its scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import calot.data.augmentations  # so that `augment=[...]` knows their names
import calot.data.teaching  # and `label` this one's
import calot.models.adaptation_by_part  # and `train.adaptation` this one's
import calot.pretraining.objective  # noqa: F401  # and `objective` this one
from calot.config import difference as differences
from calot.config import fingerprint as fingerprints
from calot.config.component import Component, marked_fields
from calot.config.fields import FractionBelowOne, Name, OfLayers, Since
from calot.config.fingerprint import NO_TREATMENT
from calot.data.clip_rules import ClipRule
from calot.data.clips import CentreLabel, Keyframes, LabelRule, Protocol
from calot.data.frames import FrameRule
from calot.data.geometry import Geometry, Squash
from calot.data.masks import MaskSource
from calot.data.mixing import Mixing
from calot.data.preparation import Preparation
from calot.data.sampling import Sampler, Uniform
from calot.data.transforms import Augmentation, HorizontalFlip
from calot.errors import CalotError, FieldError
from calot.models.backbones import DEFAULT
from calot.models.backbones.protocol import BackboneSpec, no_seam
from calot.models.heads import Head, MLPHead
from calot.models.masking import Masking
from calot.models.pooling import AttentivePooling, Pooling
from calot.models.segmentation import Segmentation
from calot.train.classification import Classification
from calot.train.losses import BCE, Loss
from calot.train.objective import ObjectiveSpec
from calot.train.stage import Compute, Stage
from calot.types import CRITERIA_HEAD


@dataclass(frozen=True, kw_only=True)
class Experiment(Component):
    """Everything that decides a result, except the data and the seed. The defaults are the study's probe family.

    `head` is the criteria's, `heads` are those beside it, each with a name of its own (`heads.segmentation.hidden`).
    `train` is the first stage and `then` those after it; each later stage starts from the best of the one before.
    `compute` says how the work is done and is not part of the fingerprint.
    """

    name: Name
    baseline: Name | None = None
    protocol: Protocol = Keyframes()
    clip: ClipRule = ClipRule()
    label: LabelRule = CentreLabel()
    frames: FrameRule = FrameRule()
    geometry: Geometry = Squash()
    augment: tuple[Augmentation, ...] = (HorizontalFlip(),)
    mixing: Mixing | None = None
    label_smoothing: FractionBelowOne = 0.0
    sampler: Sampler = Uniform()
    masks: MaskSource = MaskSource()
    backbone: BackboneSpec = DEFAULT
    pooling: Pooling = AttentivePooling()
    head: Head = MLPHead()
    heads: Annotated[tuple[Head, ...], Since("0.2.0", before=())] = ()
    masking: Masking | None = None
    objective: Annotated[ObjectiveSpec, Since("0.2.0", before=Classification())] = Classification()
    loss: Loss = BCE()
    train: Stage = Stage()
    then: tuple[Stage, ...] = ()
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        for rule in TOGETHER:
            if broken := rule.broken(self):
                raise Apart(broken, fields=rule.fields)

    @property
    def uses_masks(self) -> bool:
        """Whether clips travel with their masks."""
        read = [self.objective.reads_masks, self.loss.reads_masks, *(head.reads_masks for head in self.every_head)]
        return any(read) or self.masking is not None

    @property
    def every_head(self) -> tuple[Head, ...]:
        """The criteria's head and those beside it."""
        return (self.head, *self.heads)

    @property
    def decoder(self) -> Segmentation | None:
        """The segmentation decoder among the heads, where there is one."""
        return next((head for head in self.heads if isinstance(head, Segmentation)), None)

    @property
    def observed_layers(self) -> tuple[int, ...]:
        """Encoder layers whose queries and keys the loss reads."""
        return self.loss.observed_layers

    @property
    def labelled_place(self) -> int:
        """Where the labelled frame sits in a clip, counted from 0."""
        return self.clip.labelled_place(self.protocol)

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (self.train, *self.then)

    def preparation(self, *, seed: int) -> Preparation:
        """What is done to each effective training batch in a run of this seed."""
        return Preparation(augment=self.augment, mixing=self.mixing, label_smoothing=self.label_smoothing, seed=seed)

    def fingerprint(self) -> str:
        """SHA-256 of the treatment: equal for two names of the same thing, and for any `compute`."""
        return fingerprints.fingerprint(self, without=NO_TREATMENT)

    def difference(self, baseline: Experiment) -> list[differences.Difference]:
        """Every field in which the treatment differs from the baseline's."""
        return [d for d in differences.difference(baseline, self) if d.field.split(".")[0] not in NO_TREATMENT]


class Apart(FieldError):
    """Fields that make sense only together and do not fit; `fields` names them by dotted path."""

    def __init__(self, message: str, *, fields: tuple[str, ...]) -> None:
        super().__init__(message)
        self.fields = fields


@dataclass(frozen=True)
class Rule:
    """Fields that make sense only together: `broken` says what is wrong with them, if anything.

    Receipts put a field back to the baseline's value together with those that a rule names beside it.
    """

    fields: tuple[str, ...]
    broken: Callable[[Experiment], str | None]


def _frames_apart(experiment: Experiment) -> str | None:
    clip, backbone = experiment.clip.frames, experiment.backbone.frames
    return None if clip == backbone else f"clip gives {clip} frames and backbone.frames={backbone}: set both alike"


def _heads_of_one_name(experiment: Experiment) -> str | None:
    names = [head.name for head in experiment.every_head]
    if names[0] != CRITERIA_HEAD:
        return f"head.name={names[0]!r}: the criteria's head is called {CRITERIA_HEAD!r}"
    twice = [name for name in names if names.count(name) > 1]
    return f"heads: {twice[0]!r} is the name of two heads; give each its own" if twice else None


def _head_without_term(experiment: Experiment) -> str | None:
    names = [head.name for head in experiment.every_head]
    for term in experiment.loss.every_term():
        if lost := sorted(term.loss.reaches - {"backbone", "pooling", *names}):
            return (
                f"loss term {term.name} trains a head {lost[0]!r}, and heads holds {names}: put one of that name into "
                "heads, or take the term out of loss"
            )
    idle = [name for name in names if name not in experiment.loss.reaches]
    return f"no term of loss trains the head {idle[0]!r}: give it one, or take it out of heads" if idle else None


def _masking_without_decoder(experiment: Experiment) -> str | None:
    if experiment.masking is None or experiment.decoder is not None:
        return None
    return "masking needs Segmentation in heads: outside training the decoder's own masks decide"


def _term_that_never_begins(experiment: Experiment) -> str | None:
    for number, stage in enumerate(experiment.stages, start=1):
        last = min(stage.epochs, stage.patience)
        if late := [term.name for term in experiment.loss.every_term() if not term.begun(epoch=last - 1)]:
            return (
                f"loss.terms.{late[0]}.first_epoch is after epoch {last}, where stage {number} may end (epochs="
                f"{stage.epochs}, patience={stage.patience}): the term would never act"
            )
    return None


def _pooling_of_another_width(experiment: Experiment) -> str | None:
    try:
        experiment.pooling.require_width(experiment.backbone.width)
    except ValueError as error:
        return str(error)
    return None


def _layers_that_are_not_there(experiment: Experiment) -> str | None:
    depth = experiment.backbone.layers
    for field, numbers in marked_fields(experiment, OfLayers):
        if wrong := [n for n in numbers or () if not -depth <= n < depth]:
            return f"{field}={numbers}: backbone.layers={depth}, so there is no layer {wrong[0]}"
    return None


def _attention_without_a_seam(experiment: Experiment) -> str | None:
    masking = experiment.masking
    reads = experiment.observed_layers or (masking is not None and masking.in_encoder)
    return no_seam(experiment.backbone) if reads and experiment.backbone.layout.attention is None else None


def _adaptation_of_another_backbone(experiment: Experiment) -> str | None:
    unfit = (stage.adaptation.unfit(experiment.backbone) for stage in experiment.stages)
    return next((said for said in unfit if said), None)


def _objective_of_another_model(experiment: Experiment) -> str | None:
    return experiment.objective.unfit(backbone=experiment.backbone, stages=experiment.stages)


#: Rules between fields, in the order in which they are checked.
TOGETHER: tuple[Rule, ...] = (
    Rule(("clip", "backbone.frames"), _frames_apart),
    Rule(("head", "heads"), _heads_of_one_name),
    Rule(("pooling", "backbone.width"), _pooling_of_another_width),
    Rule(("backbone.layers", "train.adaptation", "then", "masking", "loss", "pooling"), _layers_that_are_not_there),
    Rule(("backbone", "train.adaptation", "then"), _adaptation_of_another_backbone),
    Rule(("backbone", "loss", "masking"), _attention_without_a_seam),
    Rule(
        ("objective", "backbone.predictor", "train.adaptation", "train.score_every", "then"),
        _objective_of_another_model,
    ),
    Rule(("heads", "loss"), _head_without_term),
    Rule(("masking", "heads"), _masking_without_decoder),
    Rule(("loss", "train.epochs", "train.patience", "then"), _term_that_never_begins),
)


def require_layers(experiment: Experiment) -> None:
    """Raises FieldError where numbers name layers that the backbone does not have: at another depth they would name
    other ones."""
    if broken := _layers_that_are_not_there(experiment):
        raise FieldError(broken)


FULL, TINY = "full", "tiny"

_TINY_EPOCHS, _TINY_BATCH = 12, 16


def scaled(experiment: Experiment, scale: str, *, backbone_sizes: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment at a scale: `full` as it is, `tiny` the embedded size, for minutes on a CPU.

    `backbone_sizes` are fields of the backbone that somebody chose for this scale; what follows the backbone follows
    them.
    The one place that maps sizes. Architecture and code path stay the same; the backbone knows its sizes, the head's
    widths follow it, clips are halved with their frames, and epochs and batch are capped.
    """
    if scale == FULL:
        return experiment
    if scale != TINY:
        raise CalotError(f"--scale {scale}: choose {FULL} or {TINY}")
    full = experiment.backbone
    backbone = replace(full.at_tiny_scale(), **(backbone_sizes or {}))
    ratio = backbone.width / full.width
    masking = experiment.masking
    depth = {"layers": backbone.layers, "of": full.layers}
    return replace(
        experiment,
        backbone=backbone,
        head=experiment.head.narrowed(ratio),
        heads=tuple(head.narrowed(ratio) for head in experiment.heads),
        masking=None if masking is None else masking.at_depth(**depth),
        pooling=experiment.pooling.at_depth(**depth),
        loss=experiment.loss.at_depth(**depth),
        clip=experiment.clip.shortened(backbone.frames / full.frames),
        train=_tiny_stage(experiment.train, **depth),
        then=tuple(_tiny_stage(s, **depth) for s in experiment.then),
    )


def _tiny_stage(stage: Stage, *, layers: int, of: int) -> Stage:
    adaptation = stage.adaptation.at_depth(layers=layers, of=of)
    epochs, batch = min(stage.epochs, _TINY_EPOCHS), min(stage.batch, _TINY_BATCH)
    return replace(stage, adaptation=adaptation, epochs=epochs, batch=batch)
