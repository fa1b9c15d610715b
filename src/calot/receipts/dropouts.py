"""Which shares the parts of a model really drop, counted where torch drops them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from calot.experiment import Experiment
from calot.models.adaptation import Adaptation, Frozen
from calot.models.classifier import Classifier
from calot.receipts.meters.band import Values

_CALLS = {F.dropout, torch.dropout, F.dropout1d, F.dropout2d, F.dropout3d}


class _Dropped(TorchFunctionMode):
    """Counts, for each part and rate, the share of values that a call of dropout turned into zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.values = "", Values()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        found = func(*args, **given)
        if func in _CALLS and isinstance(found, Tensor):
            before = args[0] if args else given["input"]
            rate = given.get("p", args[1] if len(args) > 1 else 0.5)
            training = given.get("training", given.get("train", args[2] if len(args) > 2 else True))
            if training and rate > 0:
                there = (before != 0).sum()
                gone = 1.0 - float((found != 0).sum() / there.clamp_min(1))
                self.values.setdefault(f"{self.part}: dropout of {rate:g}", []).append(gone)
        return found


@contextlib.contextmanager
def counted(model: Classifier) -> Iterator[Values]:
    """The shares that each part drops while this is open, by part and rate; a path's is that of the last layer."""
    mode, handles = _Dropped(), []
    for name, part in model.parts.items():
        handles.append(part.register_forward_pre_hook(lambda module, given, name=name: setattr(mode, "part", name)))
    if path := [m for m in model.backbone.modules() if type(m).__name__.endswith("DropPath")]:
        handles.append(path[-1].register_forward_hook(_count_rows(mode.values)))
    try:
        with mode:
            yield mode.values
    finally:
        for handle in handles:
            handle.remove()


def _count_rows(values: Values) -> Any:
    def hook(module: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> None:
        gone = (found.detach().flatten(1) == 0).all(dim=1)
        if module.training or gone.any():  # while scoring, a path that drops nothing did not act
            values.setdefault("backbone: last layer's path dropped", []).extend(gone.float().tolist())

    return hook


def declared(experiment: Experiment, adaptation: Adaptation) -> dict[str, float]:
    """The rates that the settings of one stage declare, under the names that `counted` gives them."""
    parts: list[tuple[str, Any]] = [("backbone", adaptation), ("pooling", experiment.pooling)]
    parts += [(head.name, head) for head in experiment.every_head]
    found = {}
    for part, component in parts:
        for field in fields(component):
            rate = getattr(component, field.name)
            if field.name.endswith("dropout") and isinstance(rate, float) and rate > 0:
                found[f"{part}: dropout of {rate:g}"] = rate
    path = getattr(experiment.backbone, "drop_path", 0.0)
    if path > 0 and not isinstance(adaptation, Frozen):  # a layer that does not train is never left out
        found["backbone: last layer's path dropped"] = path
    return found
