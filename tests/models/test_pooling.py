import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from calot.models.pooling import AttentivePool, AttentivePooling, LSTMPooling, MeanPooling
from calot.types import Tokens


class Reference(nn.Module):
    """The textbook form that the folded one must equal: nn.MultiheadAttention, then LayerNorm."""

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, width))
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        query = self.query.expand(len(x), -1, -1)
        out, weights = self.attention(query, x, x, average_attn_weights=False)
        return self.norm(out.squeeze(1)), weights.squeeze(2)


def _pair(dtype: torch.dtype, *, width: int = 64, heads: int = 4) -> tuple[Reference, AttentivePool]:
    torch.manual_seed(0)
    reference = Reference(width=width, heads=heads, dropout=0.0).to(dtype)
    for parameter in reference.parameters():
        nn.init.normal_(parameter, std=0.3)
    folded = AttentivePool(width=width, heads=heads, dropout=0.0).to(dtype)
    folded.load_state_dict(reference.state_dict())
    return reference, folded


def _tokens(x: torch.Tensor) -> Tokens:
    return Tokens(values=x, grid=(1, 1, x.shape[1]))


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_folded_pooling_equals_multihead_attention_forward_and_backward(dtype: torch.dtype, relative: float) -> None:
    reference, folded = _pair(dtype)
    x = torch.randn(3, 50, 64, dtype=dtype)
    target = torch.randn(3, 64, dtype=dtype)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    out = reference(inputs[0])[0]
    ours = folded(_tokens(inputs[1]))
    (out * target).sum().backward()
    (ours * target).sum().backward()

    def off(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).detach().norm() / a.detach().norm().clamp_min(1e-30))

    assert off(out, ours) < relative
    assert off(inputs[0].grad, inputs[1].grad) < relative
    own = dict(folded.named_parameters())
    width = 64
    for name, parameter in reference.named_parameters():
        expected, got = parameter.grad, own[name].grad
        if name == "attention.in_proj_bias":  # the key bias drops out of softmax: its true gradient is zero
            keep = torch.ones(3 * width, dtype=torch.bool)
            keep[width : 2 * width] = False
            assert got[~keep].abs().max() == 0
            expected, got = expected[keep], got[keep]
        assert off(expected, got) < 10 * relative, name


def test_the_attention_map_is_a_tap_point_and_equals_the_reference() -> None:
    reference, folded = _pair(torch.float64)
    x = torch.randn(2, 20, 64, dtype=torch.float64)
    seen: list[torch.Tensor] = []
    folded.attention_map.register_forward_hook(lambda module, args, out: seen.append(out))
    folded(_tokens(x))
    assert torch.allclose(seen[0], reference(x)[1], atol=1e-12)


def test_dropout_acts_on_the_weights_as_multihead_attention_does(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, folded = _pair(torch.float64)
    reference.attention.dropout, folded.dropout = 0.5, 0.5
    x = torch.randn(2, 20, 64, dtype=torch.float64)
    mask = (torch.rand(2, 4, 20) > 0.5).double() / 0.5

    def drop(weights: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        return weights * mask.reshape(weights.shape)

    monkeypatch.setattr(F, "dropout", drop)
    monkeypatch.setattr(torch.nn.functional, "dropout", drop)
    assert torch.allclose(reference.train()(x)[0], folded.train()(_tokens(x)), atol=1e-12)


def test_a_learned_query_starts_small_and_the_full_size_has_the_documented_count() -> None:
    with torch.device("meta"):
        pool = AttentivePooling().build(width=1024)
    assert sum(p.numel() for p in pool.parameters()) == 4_201_472
    assert AttentivePool(width=64, heads=4, dropout=0.1).query.std() < 0.04


def test_mean_pooling_is_the_mean() -> None:
    x = torch.arange(12.0).reshape(1, 4, 3)
    assert torch.equal(MeanPooling().build(width=3)(_tokens(x)), x.mean(1))


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"heads=5.*64"):
        AttentivePooling(heads=5).build(width=64)


def test_a_copy_shares_nothing() -> None:
    _, folded = _pair(torch.float32)
    other = copy.deepcopy(folded)
    with torch.no_grad():
        other.query.add_(1)
    assert not torch.equal(other.query, folded.query)


@pytest.mark.parametrize("kept", [False, True], ids=["all", "kept"])
def test_lstm_pooling_is_the_last_output_over_the_bins_mean_tokens(kept: bool) -> None:
    torch.manual_seed(0)
    pool = LSTMPooling(hidden=16, layers=2).build(width=8)
    x, keep = torch.randn(2, 4 * 6, 8), torch.rand(2, 6) > 0.4
    keep[:, 0] = True
    means = x.unflatten(1, (4, 6)).mean(dim=2)
    if kept:
        means = torch.stack([torch.stack([x[b, 6 * t : 6 * t + 6][keep[b]].mean(0) for t in range(4)]) for b in (0, 1)])
    tokens = Tokens(values=x, grid=(4, 2, 3), keep=keep.repeat(1, 4) if kept else None)
    torch.testing.assert_close(pool(tokens), pool.lstm(means)[0][:, -1])


def test_a_detached_lstm_pooling_passes_nothing_back_and_says_so() -> None:
    for detached in (False, True):
        spec = LSTMPooling(hidden=16, detached=detached)
        pool, x = spec.build(width=8), torch.randn(2, 6, 8, requires_grad=True)
        pool(Tokens(values=x, grid=(3, 1, 2))).sum().backward()
        assert (x.grad is None) == detached
        assert all(p.grad.any() for p in pool.parameters())
        assert ("backbone" in spec.reaches) == (not detached)
        assert spec.width_of(8) == 16
