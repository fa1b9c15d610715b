"""AdamW over named groups, and a warm-up + cosine schedule counted in optimiser steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from calot.models.adaptation import ParameterGroup

#: Which tensors weight decay acts on: all that train, or those of two or more dimensions alone.
Decayed = Literal["all", "matrices"]


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to the peak, then a cosine down to `floor`; both ends are reached, neither is passed.

    Step counts are optimiser steps, from 0. `floor` is the minimum learning rate, the same for every group
    (a group whose peak is below it stays at its peak).
    """

    warmup_steps: int
    total_steps: int
    floor: float

    def lr(self, *, peak: float, step: int) -> float:
        if step < self.warmup_steps:
            return peak * (step + 1) / (self.warmup_steps + 1)
        span = max(1, self.total_steps - 1 - self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / span)
        floor = min(self.floor, peak)
        return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    def apply(self, optimiser: torch.optim.Optimizer, *, step: int) -> None:
        """Set every group's rate for this step."""
        for group in optimiser.param_groups:
            group["lr"] = self.lr(peak=group["peak_lr"], step=step)


def build_adamw(
    groups: Sequence[ParameterGroup], *, weight_decay: float, decayed: Decayed = "all", fused: bool | None = None
) -> torch.optim.AdamW:
    """AdamW with one parameter group per `ParameterGroup`; each keeps its `name` and `peak_lr`.

    `decayed="matrices"`: biases and all else of one dimension, such as a norm's weights, have no decay; they are a
    group of their own, "<name> undecayed", as in V-JEPA 2's official code (`init_opt` in `app/vjepa/utils.py`).
    `fused`: one kernel updates all parameters of a group (equal up to rounding).
    """
    described: list[dict[str, Any]] = []
    for group in groups:
        trained = [p for p in group.parameters if p.requires_grad]
        flat = [p for p in trained if decayed == "matrices" and p.ndim < 2]
        rest = [p for p in trained if decayed == "all" or p.ndim > 1]
        rates = {"lr": group.lr, "peak_lr": group.lr}
        described.append({"params": rest, "name": group.name, **rates})
        described.append({"params": flat, "name": f"{group.name} undecayed", "weight_decay": 0.0, **rates})
    return torch.optim.AdamW([g for g in described if g["params"]], weight_decay=weight_decay, fused=fused)
