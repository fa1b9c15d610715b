import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from calot.models.attention_statistics import (
    QueryKey,
    _logsumexp_in_chunks,
    attention_entropy,
    attention_mass,
    normalised_entropy,
    received_attention,
)

SHAPES = [(2, 1, 37, 64), (1, 3, 50, 5), (2, 2, 129, 64)]
Statistic = Callable[[QueryKey], Tensor]


def _draw(shape: tuple[int, int, int, int], *, bias: bool = False, gain: float = 1.5, seed: int = 0) -> QueryKey:
    g = torch.Generator().manual_seed(seed)
    query, key = (gain * torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(2))
    hidden = torch.rand(shape[0], 1, 1, shape[2], generator=g, dtype=torch.float64)
    return QueryKey(
        query=query,
        key=key,
        scaling=shape[3] ** -0.5,
        bias=torch.where(hidden < 0.3, -1e4, hidden) if bias else None,
    )


def _sets(n: int, *, m: int, b: int) -> Tensor:
    return (torch.rand(b, m, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64) < 0.3).double()


def _log_map(qk: QueryKey) -> Tensor:
    scores = qk.scaling * qk.query.double() @ qk.key.double().mT
    return torch.log_softmax(scores if qk.bias is None else scores + qk.bias.double(), dim=-1)


def _map(qk: QueryKey) -> Tensor:
    return _log_map(qk).exp()


def _naive_entropy(qk: QueryKey) -> Tensor:
    return -(_map(qk) * _log_map(qk)).sum(-1)


def _naive_mass(qk: QueryKey) -> Tensor:
    return _map(qk) @ _sets(qk.key.shape[2], m=5, b=qk.key.shape[0])[:, None].mT


def _naive_received(qk: QueryKey) -> Tensor:
    return _map(qk).mean(dim=(1, 2))


def _mass_on_five_sets(qk: QueryKey) -> Tensor:
    return attention_mass(qk, _sets(qk.key.shape[2], m=5, b=qk.key.shape[0]))


PAIRS: dict[str, tuple[Statistic, Statistic]] = {
    "entropy": (attention_entropy, _naive_entropy),
    "mass": (_mass_on_five_sets, _naive_mass),
    "received": (lambda qk: received_attention(qk, chunk=16), _naive_received),
}
pairs = pytest.mark.parametrize(("ours", "naive"), PAIRS.values(), ids=PAIRS)


def _gradients(statistic: Statistic, qk: QueryKey) -> list[Tensor]:
    """The value, and the gradient of a random weighing of it into query, key and bias."""
    leaves = {k: v.detach().clone().requires_grad_() for k, v in vars(qk).items() if isinstance(v, Tensor)}
    value = statistic(replace(qk, **leaves))
    weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (value * weights.to(value)).sum().backward()
    return [value.detach(), *(x.grad for x in leaves.values() if x.grad is not None)]


def _cast(qk: QueryKey, to: Any) -> QueryKey:
    return replace(qk, **{k: v.to(to) for k, v in vars(qk).items() if isinstance(v, Tensor)})


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "biased"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pairs
def test_values_and_gradients_equal_the_whole_map_in_float64(
    ours: Statistic, naive: Statistic, shape: tuple[int, int, int, int], bias: bool
) -> None:
    qk = _draw(shape, bias=bias)
    for got, expected in zip(_gradients(ours, qk), _gradients(naive, qk), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pairs
def test_float32_stays_within_1e_5_of_float64(
    ours: Statistic, naive: Statistic, shape: tuple[int, int, int, int]
) -> None:
    qk = _draw(shape)
    for got, expected in zip(_gradients(ours, _cast(qk, torch.float32)), _gradients(naive, qk), strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


@pairs
def test_bfloat16_inputs_are_computed_in_float32_also_under_autocast(ours: Statistic, naive: Statistic) -> None:
    qk = _cast(_draw((2, 2, 129, 64)), torch.bfloat16)
    expected = naive(qk)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, into_query, _ = _gradients(ours, qk)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
    exact = _gradients(naive, _cast(qk, torch.float64))[1]
    assert into_query.dtype == torch.bfloat16
    assert (into_query.double() - exact).norm() < 4e-3 * exact.norm(), "more than the rounding of the gradient itself"


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "biased"])
@pairs
def test_gradients_equal_finite_differences(ours: Statistic, naive: Statistic, bias: bool) -> None:
    qk = _draw((1, 2, 7, 4), bias=bias)

    def of_query_and_key(query: Tensor, key: Tensor) -> Tensor:
        return ours(replace(qk, query=query, key=key))

    assert torch.autograd.gradcheck(of_query_and_key, (qk.query.requires_grad_(), qk.key.requires_grad_()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "biased"])
@pairs
def test_cuda_kernels_equal_the_whole_map_in_float64(ours: Statistic, naive: Statistic, bias: bool) -> None:
    qk = _draw((2, 2, 129, 64), bias=bias)
    on_device = _cast(_cast(qk, torch.float32), "cuda")
    with torch.device("cuda"):
        got = [x.cpu().double() for x in _gradients(ours, on_device)]
    for one, expected in zip(got, _gradients(naive, qk), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-4)


class _LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation, forward or backward, gave."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(x.numel() for x in tree_leaves(out) if isinstance(x, Tensor))])
        return out


@pairs
def test_no_tensor_is_larger_than_the_queries_or_a_chunk(ours: Statistic, naive: Statistic) -> None:
    qk = _cast(_draw((1, 2, 512, 64)), torch.float32)
    whole, chunk = 2 * 512 * 512, 2 * 16 * 512
    with _LargestTensor() as naive_largest:
        _gradients(naive, qk)
    with _LargestTensor() as largest:
        _gradients(ours, qk)
    assert naive_largest.numel >= whole, "or this test is blind"
    assert largest.numel <= max(qk.query.numel(), chunk)


@pytest.mark.parametrize("chunk", [1, 16, 37, 100])
def test_the_chunked_logsumexp_that_serves_any_device_is_exact(chunk: int) -> None:
    qk = _draw((2, 3, 37, 5))
    exact = torch.logsumexp(qk.scaling * qk.query @ qk.key.mT, dim=-1)
    torch.testing.assert_close(_logsumexp_in_chunks(qk, chunk=chunk), exact)
    torch.testing.assert_close(received_attention(qk, chunk=chunk), _naive_received(qk))


def test_a_planted_one_hot_map_reads_entropy_zero_and_mass_one() -> None:
    tokens = 40.0 * torch.eye(16, 64)[None, None]
    one_hot = QueryKey(query=tokens, key=tokens.roll(1, dims=2), scaling=1 / 8)  # query i attends to key i + 1
    assert attention_entropy(one_hot).abs().max() < 1e-4
    own = torch.eye(16).roll(1, dims=0)[None]  # each set holds one token
    mass = attention_mass(one_hot, own)[0, 0]
    torch.testing.assert_close(mass.amax(dim=-1), torch.ones(16))
    torch.testing.assert_close(received_attention(one_hot), torch.full((1, 16), 1 / 16))


def test_uniform_attention_reads_entropy_one_and_mass_the_sets_share() -> None:
    uniform = QueryKey(query=torch.zeros(2, 3, 50, 64), key=torch.randn(2, 3, 50, 64), scaling=1 / 8)
    torch.testing.assert_close(normalised_entropy(uniform), torch.ones(2, 3, 50))
    quarter = (torch.arange(50) < 10).float().expand(2, 50)
    torch.testing.assert_close(attention_mass(uniform, quarter), torch.full((2, 3, 50), 0.2))


def test_entropy_of_queries_that_each_look_sharply_elsewhere_is_not_that_of_their_average() -> None:
    """The averaged map of a permutation is uniform: it reads 100 % where every query is one-hot."""
    tokens = 40.0 * torch.eye(64)[None, None]
    permuted = QueryKey(query=tokens, key=tokens[:, :, torch.randperm(64)], scaling=1 / 8)
    averaged = received_attention(permuted)
    assert -(averaged * averaged.log()).sum() / math.log(64) > 0.999
    assert normalised_entropy(permuted).abs().max() < 1e-4


def test_more_sets_than_the_heads_are_wide_are_all_answered() -> None:
    qk = _draw((2, 3, 37, 5))
    sets = _sets(37, m=13, b=2)
    torch.testing.assert_close(attention_mass(qk, sets), _map(qk) @ sets[:, None].mT)


def test_a_component_that_all_keys_share_costs_no_precision() -> None:
    """It moves every score of a query alike, which softmax drops and logsumexp would carry."""
    qk = _draw((1, 2, 129, 64), gain=1.0)
    shared = 50 * torch.randn(1, 2, 1, 64, dtype=torch.float64)
    moved = replace(qk, key=(qk.key + shared).float().double())
    error = attention_entropy(_cast(moved, torch.float32)).double() - _naive_entropy(moved)
    assert error.abs().max() < 1e-5
