"""Attention within windows against global attention, through the seam that the encoder calls."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

from calot.bench.side_by_side import Aside, Contest, ExactnessCheck, Outcome, compete, one_torch_thread, seconds
from calot.models.attention import attend
from calot.models.windows import WindowPartition, Windows

#: By what is done: forward alone, shifted windows, and with the backward pass.
TARGETS = {"forward": 8.0, "shifted": 6.0, "backward": 10.0}
CHECKED_HEADS = 2

Call = Callable[[], Tensor]


def bench_window(
    *,
    grid: tuple[int, int, int] = (8, 16, 16),
    heads: int = 16,
    width: int = 64,
    side: int = 8,
    shifted: bool = False,
    backward: bool = False,
    repeats: int = 3,
) -> Outcome:
    """One clip's tokens in float32 on one thread; every window size that tiles the grid is an aside, with its memory.

    The naive way is global attention: what a mask over all pairs would cost too, and more.
    """
    kind = "backward" if backward else "shifted" if shifted else "forward"
    draw = torch.Generator().manual_seed(0)
    tokens = grid[0] * grid[1] * grid[2]
    qkv = tuple(torch.randn(1, heads, tokens, width, generator=draw) for _ in range(3))
    sides = [s for s in range(2, min(grid[1:]) + 1) if grid[1] % s == 0 and grid[2] % s == 0]

    def windowed(size: int) -> Call:
        shift = size // 2 if shifted and size < min(grid[1:]) else 0
        return attention_call(qkv, WindowPartition(grid=grid, side=size, shift=shift), backward=backward)

    everywhere = attention_call(qkv, None, backward=backward)
    with one_torch_thread():
        return compete(
            Contest(
                bench="window",
                work=f"attention of {tokens} tokens, {heads} heads of {width}, {kind}, in windows of {side} x {side}",
                naive_way=f"global attention, one fused call, {peak_megabytes(everywhere):.0f} MB",
                our_way="calot.models.windows, one fused call over all windows",
                target=TARGETS[kind],
                repeats=repeats,
                plain=False,
                checks=lambda: _checks(qkv, WindowPartition(grid=grid, side=side, shift=side // 2 * shifted)),
                naive=everywhere,
                ours=windowed(side),
                asides=lambda: tuple(_aside(size, windowed(size)) for size in sides),
                settings={"tokens": tokens, "heads": heads, "width": width, "side": side, "kind": kind},
            )
        )


def attention_call(qkv: tuple[Tensor, ...], partition: WindowPartition | None, *, backward: bool) -> Call:
    """One call as an encoder's layer makes it."""
    module = nn.Module()
    if partition is not None:
        module.add_module("windows", Windows(partition))

    def run() -> Tensor:
        parts = [x.detach().requires_grad_(backward) for x in qkv]
        with torch.set_grad_enabled(backward):
            query, key, value = parts
            mixed = attend(module, query, key, value, None, scaling=query.shape[-1] ** -0.5, is_causal=False)[0]
            if backward:
                mixed.backward(torch.ones_like(mixed))  # type: ignore[no-untyped-call]
        return mixed

    return run


def _checks(qkv: tuple[Tensor, ...], partition: WindowPartition) -> tuple[ExactnessCheck, ...]:
    """Output and gradient against a mask over all pairs in float64, on some of the heads."""
    few = [x[:, :CHECKED_HEADS] for x in qkv]
    ours = [x.clone().requires_grad_() for x in few]
    theirs = [x.double().requires_grad_() for x in few]
    module = nn.Module()
    module.add_module("windows", Windows(partition))
    got = attend(module, ours[0], ours[1], ours[2], None, scaling=few[0].shape[-1] ** -0.5, is_causal=False)[0]
    query, key, value = theirs
    scores = (query @ key.mT * few[0].shape[-1] ** -0.5).masked_fill(~_same_window(partition), -torch.inf)
    want = (scores.softmax(-1) @ value).transpose(1, 2)
    weight = torch.randn(want.shape, generator=torch.Generator().manual_seed(1), dtype=want.dtype)
    (got * weight.float()).sum().backward()  # type: ignore[no-untyped-call]
    (want * weight).sum().backward()
    apart = {"output": float((got.double() - want).abs().max().detach())}
    for name, mine, other in zip(("query", "key", "value"), ours, theirs, strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        apart[f"gradient of the {name}"] = float((mine.grad.double() - other.grad).abs().max())
    return tuple(ExactnessCheck(what=what, difference=d, tolerance=1e-5) for what, d in apart.items())


def _same_window(partition: WindowPartition) -> Tensor:
    """Which pairs of tokens may see each other, from their rows and columns alone."""
    time, rows, columns = (torch.arange(size) for size in partition.grid)
    spots = torch.cartesian_prod(time, rows, columns)
    blocks = torch.where(spots < partition.shift, -1, (spots - partition.shift) // partition.side)
    blocks[:, 0] = 0 if partition.all_bins else spots[:, 0]
    return (blocks[:, None] == blocks[None, :]).all(dim=-1)


def _aside(side: int, call: Call) -> Aside:
    call()
    what = f"windows of {side} x {side}, {peak_megabytes(call):.0f} MB"
    return Aside(name=f"{side} x {side}", what=what, seconds=min(seconds(call) for _ in range(2)))


def peak_megabytes(call: Callable[[], object]) -> float:
    """The most memory, in MB, that torch held at one time in a call, above what it held before it."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler else reports its own start and end
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = call()
    del kept
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 1e6
