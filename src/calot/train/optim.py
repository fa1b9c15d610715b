"""AdamW over named groups, and a warm-up + cosine schedule counted in optimiser steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from calot.models.adaptation import ParameterGroup


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
    groups: Sequence[ParameterGroup], *, weight_decay: float, fused: bool | None = None
) -> torch.optim.AdamW:
    """AdamW with one parameter group per `ParameterGroup`; each keeps its `name` and `peak_lr`.

    `fused`: one kernel updates all parameters of a group (equal up to rounding).
    """
    described = [
        {"params": [p for p in g.parameters if p.requires_grad], "lr": g.lr, "peak_lr": g.lr, "name": g.name}
        for g in groups
    ]
    return torch.optim.AdamW([g for g in described if g["params"]], weight_decay=weight_decay, fused=fused)
