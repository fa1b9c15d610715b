"""What an experiment may change inside a plain stack of layers: fewer of them, windows, skips, a pyramid of levels.

Each is a frozen value that a family holds in a field. What of it has weights is a fresh part: no published weights
hold it, and it starts where the plain encoder's tokens are unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calot.config.component import Component
from calot.config.fields import LayerNumbers, Natural, Range, Size, layers_at_depth
from calot.models.windows import WindowPartition, Windows

#: The layers' outputs that something later reads, by number.
Levels = Mapping[int, Float[Tensor, "b n d"]]


@dataclass(frozen=True, kw_only=True)
class Pruning(Component):
    """The encoder's layers are some of the `of` that its weights have: the first, the last, or evenly spread ones."""

    of: Annotated[int, Range(ge=1, le=1000)] = 24
    keep: Literal["first", "last", "spread"] = "last"

    def __str__(self) -> str:
        return f"the {self.keep} of {self.of}"

    def kept(self, layers: int) -> tuple[int, ...]:
        """Which layers of the whole encoder stay, where `layers` of them do."""
        chosen = {
            "first": range(layers),
            "last": range(self.of - layers, self.of),
            "spread": (place * self.of // layers for place in range(layers)),
        }
        return tuple(chosen[self.keep])


@dataclass(frozen=True, kw_only=True)
class WindowAttention(Component):
    """Attention within windows of `size` x `size` tokens of one temporal bin, or of all of them (`all_bins`).

    `shifted`: in every other layer the windows begin half a window further on, so that neighbours meet (Liu et al.
    2021). `layers` None is all of them. It takes the place of global attention in those layers.
    """

    size: Size = 8
    shifted: bool = False
    all_bins: bool = False
    layers: LayerNumbers | None = None

    def __str__(self) -> str:
        where = "in each layer" if self.layers is None else f"in layers {', '.join(map(str, self.layers))}"
        shifted, bins = (", shifted" if self.shifted else ""), (" of all bins" if self.all_bins else "")
        return f"windows of {self.size} x {self.size} tokens{bins}{shifted} {where}"

    def scaled(self, *, layers: int, of: int, side: int, of_side: int) -> WindowAttention:
        """The same part of the grid's side, and the same part of the depth."""
        numbers = (
            None if self.layers is None else tuple(sorted(set(layers_at_depth(self.layers, layers=layers, of=of))))
        )
        return replace(self, size=max(1, self.size * side // of_side), layers=numbers)

    def require(self, grid: tuple[int, int, int]) -> None:
        """Raises ValueError where windows do not tile the grid, or cannot be shifted."""
        if grid[1] % self.size or grid[2] % self.size:
            raise ValueError(f"windows.size={self.size} does not divide the {grid[1]} x {grid[2]} tokens of a frame")
        if self.shifted and self.size in grid[1:]:
            raise ValueError(
                f"windows.shifted: one window of {self.size} covers the frame, so there is nothing to shift"
            )

    def numbers(self, depth: int) -> tuple[int, ...]:
        """The layers it acts in, from 0."""
        return tuple(range(depth)) if self.layers is None else tuple(sorted({n % depth for n in self.layers}))

    def fresh(self, *, depth: int, heads: int) -> WindowGates | None:
        """What of it has weights."""
        return None

    def install(
        self, attention: Mapping[int, nn.Module], *, grid: tuple[int, int, int], gates: nn.Module | None
    ) -> None:
        """Put windows into these layers' attention."""
        for place, (number, module) in enumerate(attention.items()):
            shift = self.size // 2 if self.shifted and number % 2 else 0
            partition = WindowPartition(grid=grid, side=self.size, shift=shift, all_bins=self.all_bins)
            gate = _GateOf(gates, place) if isinstance(gates, WindowGates) else None
            module.add_module("windows", Windows(partition, gate=gate))


@dataclass(frozen=True, kw_only=True)
class ParallelWindows(WindowAttention):
    """Windows beside global attention, added to it times one learned factor per head, which starts at zero."""

    def __str__(self) -> str:
        return f"{super().__str__()} beside global attention"

    def fresh(self, *, depth: int, heads: int) -> WindowGates:
        return WindowGates(layers=len(self.numbers(depth)), heads=heads)


class WindowGates(nn.Module):
    """One factor per layer and head, zero at first."""

    def __init__(self, *, layers: int, heads: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(layers, heads))


@dataclass(frozen=True)
class _GateOf:
    """One layer's factors, read where they are used."""

    gates: WindowGates
    place: int

    def __call__(self) -> Float[Tensor, " heads"]:
        return self.gates.values[self.place]


@dataclass(frozen=True, kw_only=True)
class Skips(Component):
    """U-Net skips: the output of each layer of `sources` joins the input of the one beside it in `targets`, times one
    learned factor per channel, which starts at zero (Ronneberger et al. 2015, whose skips join by concatenation)."""

    sources: tuple[Natural, ...] = (0, 6)
    targets: tuple[Natural, ...] = (23, 18)

    def __str__(self) -> str:
        return "skips " + ", ".join(f"{source} to {target}" for source, target in self.pairs)

    def __post_init__(self) -> None:
        pairs = self.pairs
        if len(self.sources) != len(self.targets) or len(set(pairs)) < len(self.sources) or not pairs:
            raise ValueError(f"Skips of {self.sources} into {self.targets}: give each source its own target")
        if wrong := [pair for pair in pairs if pair[0] >= pair[1]]:
            raise ValueError(f"Skips: layer {wrong[0][0]} cannot reach back into layer {wrong[0][1]}")

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Source and target of each skip."""
        return tuple(zip(self.sources, self.targets, strict=False))

    def scaled(self, *, layers: int, of: int) -> Skips:
        """The same at another depth; skips that become one are one."""
        ends = (layers_at_depth(numbers, layers=layers, of=of) for numbers in (self.sources, self.targets))
        pairs = [pair for pair in dict.fromkeys(zip(*ends, strict=True)) if pair[0] < pair[1]]
        return Skips(sources=tuple(a for a, _ in pairs), targets=tuple(b for _, b in pairs))

    def build(self, *, width: int) -> SkipGates:
        return SkipGates(self.pairs, width=width)


class SkipGates(nn.Module):
    """One factor per skip and channel, zero at first. `off` leaves them out."""

    def __init__(self, pairs: Sequence[tuple[int, int]], *, width: int) -> None:
        super().__init__()
        self.pairs, self.off = tuple(pairs), False
        self.values = nn.Parameter(torch.zeros(len(self.pairs), width))

    def entering(self, layer: int, hidden: Float[Tensor, "b n d"], levels: Levels) -> Float[Tensor, "b n d"]:
        """A layer's input with what skips bring it."""
        for gate, (source, target) in zip(self.values, self.pairs, strict=True):
            if target == layer and not self.off:
                hidden = hidden + gate.to(hidden.dtype) * levels[source]
        return hidden


@dataclass(frozen=True, kw_only=True)
class Pyramid(Component):
    """Outputs of several layers, each with a LayerNorm of its own, joined with the last into one token by a linear
    (after feature pyramids, Lin et al. 2017; a plain encoder has one resolution). It starts as the last layer alone."""

    layers: tuple[Natural, ...] = (6, 12)

    def __str__(self) -> str:
        return f"a pyramid over layers {', '.join(map(str, self.layers))} and the last"

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ValueError(f"Pyramid.layers={self.layers}: name at least one layer below the last, each once")

    def scaled(self, *, layers: int, of: int) -> Pyramid:
        """The same at another depth."""
        return Pyramid(layers=tuple(dict.fromkeys(layers_at_depth(self.layers, layers=layers, of=of))))

    def build(self, *, width: int) -> PyramidJoin:
        return PyramidJoin(self.layers, width=width)


class PyramidJoin(nn.Module):
    """`last + linear(norm(level) ...)` over the levels below; the linear is zero at first. `off` gives `last`."""

    def __init__(self, layers: Sequence[int], *, width: int) -> None:
        super().__init__()
        self.layers, self.off = tuple(layers), False
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.layers)
        self.join = nn.Linear(len(self.layers) * width, width)
        nn.init.zeros_(self.join.weight)
        nn.init.zeros_(self.join.bias)

    def forward(self, last: Float[Tensor, "b n d"], levels: Levels) -> Float[Tensor, "b n d"]:
        if self.off:
            return last
        below = [norm(levels[number]) for norm, number in zip(self.norms, self.layers, strict=True)]
        joined: Tensor = last + self.join(torch.cat(below, dim=-1))
        return joined
