"""Attentive pooling with folded projections, against nn.MultiheadAttention with the same state dict."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from calot.bench.side_by_side import Contest, ExactnessCheck, Outcome, compete, one_torch_thread
from calot.models.pooling import AttentivePool
from calot.types import Tokens

TARGET = 20.0
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}
CHECKED = 2


class TextbookPool(nn.Module):
    """One learned query through nn.MultiheadAttention, then LayerNorm: names and shapes of `AttentivePool`.

    The call is the default one: `need_weights=False` was slower here, on the CPU with dropout.
    """

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, 1, width))
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tokens) -> Tensor:
        x = tokens.values
        pooled, _ = self.attention(self.query.expand(len(x), -1, -1), x, x)
        out: Tensor = self.norm(pooled.squeeze(1))
        return out


def bench_pooling(
    *, batch: int = 32, tokens: int = 2048, width: int = 1024, heads: int = 8, dropout: float = 0.1, repeats: int = 3
) -> Outcome:
    """Forward and backward to all parameters, in training mode, one thread; the tokens are a frozen backbone's."""
    torch.manual_seed(0)
    naive, ours = _pair(width=width, heads=heads, dropout=dropout)
    x, aim = torch.randn(batch, tokens, width), torch.randn(batch, width)
    with one_torch_thread():
        return compete(
            Contest(
                bench="pooling",
                work=f"pool {batch} clips of {tokens} tokens of width {width}, forward and backward",
                naive_way="nn.MultiheadAttention, one learned query",
                our_way="calot.models.pooling.AttentivePool",
                target=TARGET,
                repeats=repeats,
                checks=lambda: tuple(_check(naive, ours, x[:CHECKED], aim[:CHECKED], dtype) for dtype in TOLERANCES),
                naive=lambda: _step(naive, x, aim),
                ours=lambda: _step(ours, x, aim),
                settings={"batch": batch, "tokens": tokens, "width": width, "heads": heads, "dropout": dropout},
            )
        )


def _pair(*, width: int, heads: int, dropout: float) -> tuple[nn.Module, nn.Module]:
    naive = TextbookPool(width=width, heads=heads, dropout=dropout)
    with torch.no_grad():  # attention that is far from uniform, and no bias that is zero
        naive.query.normal_(std=2.0)
        for bias in (naive.attention.in_proj_bias, naive.attention.out_proj.bias, naive.norm.bias):
            bias.normal_(std=0.3)
    ours = AttentivePool(width=width, heads=heads, dropout=dropout)
    ours.load_state_dict(naive.state_dict())
    return naive, ours


def _step(pool: nn.Module, x: Tensor, aim: Tensor) -> Tensor:
    pool.zero_grad(set_to_none=True)
    out: Tensor = pool(Tokens(values=x, grid=(1, 1, x.shape[1])))
    (out * aim).sum().backward()  # type: ignore[no-untyped-call]
    return out


def _check(naive: nn.Module, ours: nn.Module, x: Tensor, aim: Tensor, dtype: torch.dtype) -> ExactnessCheck:
    """The largest relative difference (norms) of output, gradient of the tokens and gradient of every parameter."""
    found = []
    for pool in (naive, ours):
        pool = copy.deepcopy(pool).to(dtype).eval()
        tokens = x.to(dtype).detach().clone().requires_grad_()
        out = _step(pool, tokens, aim.to(dtype))
        gradients = {name: parameter.grad for name, parameter in pool.named_parameters()}
        found.append({"output": out.detach(), "tokens": tokens.grad, **gradients})
    expected, got = found
    off = max(_relative(expected[name], got[name]) for name in expected)
    name = str(dtype).removeprefix("torch.")
    return ExactnessCheck(what=f"output and gradients in {name}, relative", difference=off, tolerance=TOLERANCES[dtype])


def _relative(expected: Tensor | None, got: Tensor | None) -> float:
    if expected is None or got is None:
        return float("nan")
    return float((expected - got).norm() / expected.norm().clamp_min(1e-30))
