import itertools

import pytest
import torch
from torch import nn

from calot.experiments import resolve
from calot.models.adaptation import ParameterGroup
from calot.run.build import build_classifier
from calot.train.optim import Schedule, build_adamw
from calot.train.stage import Stage


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


def test_biases_and_norms_are_spared_weight_decay_where_matrices_alone_decay() -> None:
    block = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 2))
    optimiser = build_adamw(
        [ParameterGroup("a", tuple(block.parameters()), 1e-2)], weight_decay=0.5, decayed="matrices"
    )
    before = {name: p.detach().clone().add_(1) for name, p in block.named_parameters()}
    with torch.no_grad():
        for name, p in block.named_parameters():
            p.copy_(before[name])
            p.grad = torch.zeros_like(p)
    optimiser.step()  # without a gradient, decay alone moves anything: by rate x decay of it
    left = {name: float((p.detach() / before[name]).mean()) for name, p in block.named_parameters()}
    assert left == {"0.weight": 1, "0.bias": 1, "1.weight": pytest.approx(1 - 1e-2 * 0.5), "1.bias": 1}
    assert [(g["name"], len(g["params"]), g["peak_lr"]) for g in optimiser.param_groups] == [
        ("a", 1, 1e-2),
        ("a undecayed", 3, 1e-2),
    ]


def test_what_a_pretraining_decays_is_what_the_official_code_decays() -> None:
    """`init_opt` of V-JEPA 2 goes by names: whatever has "bias" in its name, or one dimension, has no decay."""
    experiment = resolve("p01_masked_prediction", overrides=["backbone.weights=None"], scale="tiny").experiment
    stage, model = experiment.train, build_classifier(experiment)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = build_adamw(stage.adapt(model.backbone), weight_decay=0.04, decayed=stage.decayed).param_groups
    decay = {names[id(p)]: g["weight_decay"] for g in groups for p in g["params"]}
    assert decay == {
        name: 0.0 if "bias" in name or len(p.shape) == 1 else 0.04
        for name, p in model.backbone.named_parameters(prefix="backbone")
    }
    assert sorted(set(decay.values())) == [0.0, 0.04]


def test_all_that_trains_decays_unless_an_experiment_says_otherwise() -> None:
    layer = nn.Linear(3, 2)
    groups = build_adamw([ParameterGroup("a", tuple(layer.parameters()), 1e-2)], weight_decay=0.5).param_groups
    assert [(g["name"], g["weight_decay"], len(g["params"])) for g in groups] == [("a", 0.5, 2)]
    assert Stage().decayed == "all"
