"""From an experiment to its model."""

from __future__ import annotations

from typing import Any

import torch

from calot.experiment import Experiment
from calot.models.classifier import Classifier


def parameter_counts(experiment: Experiment) -> dict[str, Any]:
    """Count parameters by group on the meta device: no weights, no memory. What trains is the first stage's, and each
    stage's under `stages`."""
    with torch.device("meta"):
        model = build_classifier(experiment, weights=False)
    stages = []
    for stage in experiment.stages:
        stage.adapt(model.backbone)
        stages.append(model.parameter_counts())
    trained = [{k: s[k] for k in ("trainable", "trainable_groups")} for s in stages]
    return {**stages[0], "total": stages[-1]["total"], "groups": stages[-1]["groups"], "stages": trained}


def build_classifier(experiment: Experiment, *, weights: bool = True) -> Classifier:
    """The experiment's model; without `weights`, untrained ones, to load a checkpoint into."""
    spec = experiment.backbone
    backbone = spec.build() if weights else spec.build_without_weights()
    if experiment.compute.gradient_checkpointing:
        backbone.checkpoint_gradients()
    return Classifier(
        backbone=backbone,
        pooling=experiment.pooling,
        heads=experiment.every_head,
        masking=experiment.masking,
        labelled_place=experiment.labelled_place,
        observed_layers=experiment.observed_layers,
    )
