import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from calot.models.attention import tapped
from calot.models.attention_statistics import attention_mass
from calot.models.backbones.vjepa2 import VJEPA2
from calot.train.attention_losses import (
    attention_focal_mse,
    attention_kl,
    attention_mse,
    attention_target_weighted_mse,
    entropy_penalty,
    log_mass,
    received_by_position,
)
from calot.types import QueryKey

GRID = (3, 4, 5)
POSITIONS = 20
Term = Callable[[QueryKey, Tensor], Tensor]

TERMS: dict[str, Term] = {
    "kl": lambda qk, target: attention_kl(qk, target, grid=GRID),
    "mse": lambda qk, target: attention_mse(qk, target, grid=GRID),
    "focal_mse": lambda qk, target: attention_focal_mse(qk, target, grid=GRID, gamma=1.5),
    "target_weighted": lambda qk, target: attention_target_weighted_mse(qk, target, grid=GRID),
    "entropy": lambda qk, target: entropy_penalty(qk, threshold=0.7),
    "log_mass": lambda qk, target: log_mass(qk, target, grid=GRID),
}
terms = pytest.mark.parametrize("name", TERMS)


def _draw(*, dtype: torch.dtype = torch.float64, gain: float = 1.5) -> QueryKey:
    g = torch.Generator().manual_seed(0)
    query, key = ((gain * torch.randn(2, 3, 60, 16, generator=g, dtype=torch.float64)).to(dtype) for _ in range(2))
    return QueryKey(query=query.requires_grad_(), key=key.requires_grad_(), scaling=0.25)


def _target(*positions: int) -> Tensor:
    target = torch.zeros(2, POSITIONS)
    target[:, list(positions)] = 1
    return target


ANATOMY = _target(3, 4, 8, 9)


def _naive(name: str, qk: QueryKey, target: Tensor) -> Tensor:
    """The same terms from the whole map, as one would write them down."""
    log_map = torch.log_softmax(qk.scaling * qk.query.double() @ qk.key.double().mT, dim=-1)
    received = log_map.exp().mean(dim=(1, 2)).unflatten(1, GRID).sum(1).flatten(1)
    wanted = target.double() / target.double().sum(1, keepdim=True)
    if name == "kl":
        return torch.where(wanted > 0, wanted * (wanted.clamp_min(1e-9).log() - received.log()), 0.0).sum(1)
    if name == "mse":
        return ((wanted - received) ** 2).mean(1)
    if name == "target_weighted":
        return ((1 + 10 * target.double()) * (wanted - received) ** 2).mean(1)
    if name == "focal_mse":
        size = (wanted - received).abs().detach()
        return ((size / size.amax(1, keepdim=True)) ** 1.5 * (wanted - received) ** 2).mean(1)
    if name == "entropy":
        return torch.relu(-(log_map.exp() * log_map).sum(-1) / math.log(60) - 0.7).mean(dim=(1, 2))
    return -(received * target.double()).sum(1).log()


def _gradients(value: Tensor, qk: QueryKey) -> list[Tensor]:
    grads = torch.autograd.grad((value * torch.tensor([1.0, -0.7])).sum(), (qk.query, qk.key))
    return [value.detach().double(), *(g.double() for g in grads)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
@terms
def test_values_and_gradients_equal_the_whole_map(name: str, dtype: torch.dtype, tolerance: float) -> None:
    qk, exact = _draw(dtype=dtype), _draw()
    expected = _gradients(_naive(name, exact, ANATOMY), exact)
    assert min(float(x.abs().max()) for x in expected) > 1e-6, "both tensors must get gradient, or this test is blind"
    for got, one in zip(_gradients(TERMS[name](qk, ANATOMY), qk), expected, strict=True):
        torch.testing.assert_close(got, one, rtol=tolerance, atol=tolerance * float(one.abs().max()))


def test_uniform_attention_reads_what_the_share_of_anatomy_says() -> None:
    qk = QueryKey(query=torch.zeros(2, 3, 60, 16), key=torch.randn(2, 3, 60, 16), scaling=0.25)
    mse = (4 * (1 / 4 - 1 / 20) ** 2 + 16 * (1 / 20) ** 2) / 20
    expected = {"kl": math.log(5), "mse": mse, "entropy": 0.3, "log_mass": math.log(5)}
    for name, value in expected.items():
        torch.testing.assert_close(TERMS[name](qk, ANATOMY), torch.full((2,), value), rtol=1e-5, atol=1e-6)


def test_attention_spread_evenly_over_anatomy_costs_nothing() -> None:
    on_anatomy = ANATOMY[0].repeat(GRID[0])
    key = torch.zeros(2, 3, 60, 16)
    key[..., 0] = 400.0 * on_anatomy
    qk = QueryKey(query=torch.ones(2, 3, 60, 16), key=key, scaling=0.25)
    for name in ("kl", "mse", "focal_mse", "entropy", "log_mass"):
        torch.testing.assert_close(TERMS[name](qk, ANATOMY), torch.zeros(2), rtol=0, atol=1e-5)
    assert attention_kl(qk, _target(0), grid=GRID).isfinite().all(), "no attention at all on the target stays finite"


def test_a_target_holds_for_every_temporal_bin_and_positions_keep_their_place() -> None:
    for bin_ in range(GRID[0]):
        key = torch.zeros(2, 3, 60, 16)
        key[:, :, bin_ * POSITIONS + 9, 0] = 400.0
        qk = QueryKey(query=torch.ones(2, 3, 60, 16), key=key, scaling=0.25)
        torch.testing.assert_close(received_by_position(qk, grid=GRID), _target(9))
        torch.testing.assert_close(log_mass(qk, _target(9), grid=GRID), torch.zeros(2))


def test_focal_mse_with_gamma_zero_is_mse_and_a_large_gamma_keeps_the_worst_position() -> None:
    qk = _draw()
    assert torch.equal(attention_focal_mse(qk, ANATOMY, grid=GRID, gamma=0.0), attention_mse(qk, ANATOMY, grid=GRID))
    difference = ANATOMY / 4 - received_by_position(qk, grid=GRID)
    worst = difference.square().amax(1) / POSITIONS
    torch.testing.assert_close(attention_focal_mse(qk, ANATOMY, grid=GRID, gamma=1e4), worst)


@terms
def test_descending_a_term_moves_attention_the_way_it_says(name: str) -> None:
    qk = _draw(gain=0.3)
    start = TERMS[name](qk, ANATOMY).detach()
    before = attention_mass(qk, ANATOMY.repeat(1, GRID[0])).mean()
    optimiser = torch.optim.Adam([qk.query, qk.key], lr=0.05)
    for _ in range(30):
        optimiser.zero_grad()
        TERMS[name](qk, ANATOMY).sum().backward()
        optimiser.step()
    assert (TERMS[name](qk, ANATOMY) < 0.5 * start).all()
    if name != "entropy":
        assert attention_mass(qk, ANATOMY.repeat(1, GRID[0])).mean() > before + 0.1


@terms
def test_a_term_alone_trains_the_tapped_layers_queries_and_keys_and_not_its_values(name: str) -> None:
    """The study's supervision ran on detached queries and keys: a loss without any gradient."""
    torch.manual_seed(0)
    backbone = VJEPA2(weights=None, size=32, frames=8, patch=8, width=128, layers=2, heads=2).build().train()
    target = torch.zeros(2, 16)
    target[:, :5] = 1
    with tapped(backbone) as seen:
        backbone(torch.randn(2, 8, 3, 32, 32))
    grid = backbone.spec.grid
    of_grid: dict[str, Term] = {
        "kl": lambda qk, t: attention_kl(qk, t, grid=grid),
        "mse": lambda qk, t: attention_mse(qk, t, grid=grid),
        "focal_mse": lambda qk, t: attention_focal_mse(qk, t, grid=grid),
        "target_weighted": lambda qk, t: attention_target_weighted_mse(qk, t, grid=grid),
        "entropy": lambda qk, t: entropy_penalty(qk),
        "log_mass": lambda qk, t: log_mass(qk, t, grid=grid),
    }
    of_grid[name](seen[-1], target).mean().backward()
    last = backbone.model.encoder.layer[-1].attention
    assert last.query.weight.grad.abs().max() > 0
    assert last.key.weight.grad.abs().max() > 0
    assert last.value.weight.grad is None
    assert last.proj.weight.grad is None


def test_a_clip_without_anatomy_is_refused_by_its_number() -> None:
    target = ANATOMY.clone()
    target[1] = 0
    for name in ("kl", "mse", "focal_mse", "log_mass"):
        with pytest.raises(ValueError, match=r"clips \[1\] of the batch have no anatomy"):
            TERMS[name](_draw(), target)
