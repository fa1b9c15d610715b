import itertools

import pytest
import torch
from torch import nn

from calot.models.adaptation import ParameterGroup
from calot.train.optim import Schedule, build_adamw


def test_the_schedule_warms_up_linearly_peaks_and_ends_on_its_floor() -> None:
    schedule = Schedule(warmup_steps=4, total_steps=20, floor=1e-6)
    rates = [schedule.lr(peak=1e-3, step=s) for s in range(20)]
    assert rates[:5] == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4, 1e-3])
    assert rates[-1] == pytest.approx(1e-6)
    assert all(a > b for a, b in itertools.pairwise(rates[4:]))


def test_the_schedule_does_not_step_past_its_end() -> None:
    schedule = Schedule(warmup_steps=0, total_steps=10, floor=1e-6)
    assert schedule.lr(peak=1e-3, step=500) == pytest.approx(1e-6)


def test_a_group_whose_peak_lies_below_the_floor_stays_at_its_peak() -> None:
    schedule = Schedule(warmup_steps=0, total_steps=10, floor=1e-5)
    assert schedule.lr(peak=1e-6, step=9) == pytest.approx(1e-6)


def test_every_group_keeps_its_own_peak_and_frozen_tensors_are_left_out() -> None:
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.bias.requires_grad_(False)
    groups = [ParameterGroup("a", tuple(a.parameters()), 1e-4), ParameterGroup("b", tuple(b.parameters()), 1e-3)]
    optimiser = build_adamw(groups, weight_decay=0.1)
    Schedule(warmup_steps=0, total_steps=2, floor=0.0).apply(optimiser, step=0)
    assert [(g["name"], g["lr"], len(g["params"])) for g in optimiser.param_groups] == [("a", 1e-4, 2), ("b", 1e-3, 1)]
    assert isinstance(optimiser, torch.optim.AdamW)


def test_a_fused_step_is_the_same_step() -> None:
    weights = []
    for fused in (None, True):
        torch.manual_seed(0)
        layer = nn.Linear(8, 4)
        optimiser = build_adamw([ParameterGroup("a", tuple(layer.parameters()), 1e-2)], weight_decay=0.1, fused=fused)
        for _ in range(5):
            layer(torch.rand(3, 8)).square().sum().backward()
            optimiser.step()
            optimiser.zero_grad()
        weights.append(layer.weight.detach())
    assert torch.allclose(*weights, atol=1e-7, rtol=0)
