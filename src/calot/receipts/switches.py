"""The parts of a trained model that can be switched off while it scores, each alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

from calot.experiment import Experiment
from calot.models.classifier import Classifier


def switches(experiment: Experiment, model: Classifier) -> dict[str, AbstractContextManager[None]]:
    """By name, what opens while a part is off: the adapter, what the backbone's family adds, masking in any form."""
    found: dict[str, AbstractContextManager[None]] = {}
    if getattr(model.backbone, "adapter", None) is not None:
        found["adapter"] = _without_adapter(model)
    found |= {name: off() for name, off in model.backbone.spec.switches(model.backbone.model).items()}
    if experiment.masking is not None:
        found["masking"] = _without_masking(model)
    return found


@contextlib.contextmanager
def _without_adapter(model: Classifier) -> Iterator[None]:
    """Adapted linears as they were published."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [m for m in model.backbone.modules() if isinstance(m, BaseTunerLayer)]
    trained = [p for p in model.backbone.parameters() if p.requires_grad]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter in model.backbone.parameters():
            parameter.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def _without_masking(model: Classifier) -> Iterator[None]:
    masking, model.masking = model.masking, None
    try:
        yield
    finally:
        model.masking = masking
