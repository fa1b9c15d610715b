"""Whether a stage's features can be cached, and how: what training decides by, and what a plan says beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from calot.config.json_form import to_json
from calot.data.preparation import Preparation
from calot.experiment import Experiment
from calot.models.classifier import Classifier
from calot.run.experiment_file import has_own_components
from calot.train.features import TOLERANCE, FeatureShape, Kind
from calot.train.loop import epochs_without_gain
from calot.train.stage import Stage

SHARD_BYTES = 64 << 20
#: A cache is made of itself where it spares this many times the forward passes that it costs, ...
WORTH = 1.5
#: ... holds at least this part of the backbone's layers, ...
PART_WORTH = 0.5
#: ... and takes at most this share of the free disk.
DISK_SHARE = 0.5


def unfit(experiment: Experiment, model: Classifier, *, preparation: Preparation) -> str | None:
    """Why tokens computed beforehand cannot stand in for what is frozen of an experiment's backbone, or None."""
    spec = model.backbone.spec
    if has_own_components(to_json(experiment)):
        return "components of your own may read frames"
    if not experiment.objective.reads_labels:
        return "its objective reads frames"
    if experiment.masking is not None and experiment.masking.in_encoder:
        return "masking acts inside the encoder"
    depth, first = len(model.backbone.layers), model.backbone.first_trained
    if any(n % depth < (depth if first is None else first) for n in (*model.observed_layers, *model.pooled_layers)):
        return "outputs of single frozen layers are read"
    if len(spec.views) > 1 or spec.beside:
        return "the backbone reads several views of a clip"
    if first is not None and spec.undivided is not None:
        return f"part of the backbone trains, and {spec.undivided}"
    return preparation.unlisted


def chosen_kind(
    experiment: Experiment, model: Classifier, *, stage: Stage, views: int, clips: Mapping[str, int], free: int
) -> Kind | None:
    """How a stage's features are stored: as asked for, else in full or half precision where that pays and fits into
    `free` bytes of disk. None: they are computed in each epoch."""
    asked = next((k for k in TOLERANCE if k == experiment.compute.features), None)
    if asked is not None:
        return asked
    first, depth = model.backbone.first_trained, len(model.backbone.layers)
    if first is not None and first < PART_WORTH * depth:
        return None
    train, val = clips["train"], clips["val"]
    subset = min(experiment.compute.train_subset, train)
    epochs = epochs_without_gain(stage)
    if epochs * train + -(-epochs // stage.score_every) * (subset + val) < WORTH * (views * train + val):
        return None
    kinds: tuple[Kind, ...] = ("fp32", "fp16")
    return next(
        (k for k in kinds if stored_bytes(experiment, views=views, clips=clips, kind=k) <= DISK_SHARE * free), None
    )


def stored_bytes(experiment: Experiment, *, views: int, clips: Mapping[str, int], kind: Kind) -> int:
    """Of training clips in every view and validation clips in one."""
    parts = ((clips["train"], views), (clips["val"], 1))
    return sum(feature_shape(experiment, clips=n, views=v, kind=kind).bytes for n, v in parts)


def feature_shape(experiment: Experiment, *, clips: int, views: int, kind: Kind) -> FeatureShape:
    """The shape of one split's cache."""
    spec, batch = experiment.backbone, experiment.compute.evaluation_batch
    whole = FeatureShape(clips=clips, views=views, grid=spec.grid, width=spec.width, kind=kind, shard=1)
    shard = max(1, SHARD_BYTES // (whole.clip_bytes * batch)) * batch  # whole batches of evaluation
    return replace(whole, shard=shard)
