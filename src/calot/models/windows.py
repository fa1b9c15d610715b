"""Attention within windows of the token grid: tokens regrouped by window, one fused call, and put back.

No score between windows is ever computed: with s x s windows the cost of n tokens falls from n^2 to n s^2.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

#: Added to the score of a pair that a wall parts: exp of it is 0, and unlike -inf it never gives NaN.
WALL = -1e4


class WindowPartition(nn.Module):
    """A token grid (time, height, width) cut into windows of `side` x `side` tokens within one temporal bin, or within
    all of them together.

    `shift`: the windows begin that many rows and columns further on, by rolling the grid (Liu et al. 2021). A window
    that then holds two opposite edges of the frame has walls between them, so that only neighbours see each other.
    """

    def __init__(self, *, grid: tuple[int, int, int], side: int, shift: int = 0, all_bins: bool = False) -> None:
        super().__init__()
        if grid[1] % side or grid[2] % side:
            raise ValueError(f"windows of {side} x {side} tokens do not tile a grid of {grid[1]} x {grid[2]}")
        self.grid, self.side, self.shift, self.all_bins = grid, side, shift, all_bins
        self._walls: dict[torch.device, Tensor] = {}  # no buffers: what is loaded into a network leaves those unset

    @property
    def count(self) -> int:
        """Windows per clip."""
        time, rows, columns = self.grid
        return (1 if self.all_bins else time) * (rows // self.side) * (columns // self.side)

    def parted(self, x: Shaped[Tensor, "b heads n d"]) -> Shaped[Tensor, "bw heads s d"]:
        """Each window's tokens as a row of their own, a clip's windows together."""
        (time, rows, columns), side = self.grid, self.side
        if self.shift:
            x = x.reshape(*x.shape[:2], *self.grid, -1).roll((-self.shift, -self.shift), dims=(3, 4)).flatten(2, 4)
        cells = x.reshape(x.shape[0], x.shape[1], time, rows // side, side, columns // side, side, x.shape[-1])
        order = (0, 3, 5, 1, 2, 4, 6, 7) if self.all_bins else (0, 2, 3, 5, 1, 4, 6, 7)
        return cells.permute(order).reshape(x.shape[0] * self.count, x.shape[1], -1, x.shape[-1])

    def whole(self, x: Float[Tensor, "bw s heads d"]) -> Float[Tensor, "b n heads d"]:
        """What windows gave, in the order of the grid's tokens; as `parted` undone, heads after tokens."""
        (time, rows, columns), side = self.grid, self.side
        clips, heads, width = x.shape[0] // self.count, x.shape[2], x.shape[3]
        if self.all_bins:
            cells = x.reshape(clips, rows // side, columns // side, time, side, side, heads, width)
            cells = cells.permute(0, 3, 1, 4, 2, 5, 6, 7)
        else:
            cells = x.reshape(clips, time, rows // side, columns // side, side, side, heads, width)
            cells = cells.permute(0, 1, 2, 4, 3, 5, 6, 7)
        placed = cells.reshape(clips, *self.grid, heads, width)
        if self.shift:
            placed = placed.roll((self.shift, self.shift), dims=(2, 3))
        return placed.reshape(clips, -1, heads, width)

    def order(self, *, device: torch.device | None = None) -> Int[Tensor, " n"]:
        """The place in the grid of each token of `parted`, window by window."""
        n = self.grid[0] * self.grid[1] * self.grid[2]
        return self.parted(torch.arange(n, device=device)[None, None, :, None]).flatten()

    def rows_of(self, x: Float[Tensor, "b 1 1 n"]) -> Float[Tensor, "bw 1 1 s"]:
        """One number for each token (a bias of keys) as rows of windows."""
        return self.parted(x.mT).mT

    def between(
        self, bias: Float[Tensor, "1 heads s s"] | None, *, clips: int, device: torch.device | None = None
    ) -> Tensor | None:
        """What is added to the scores within each window of each clip: a position bias and the walls."""
        if not self.shift:
            return bias
        walls = self.walls(bias.device if bias is not None else device)
        whole = walls if bias is None else walls + bias
        return whole.repeat(clips, 1, 1, 1)

    def walls(self, device: torch.device | None = None) -> Float[Tensor, "w 1 s s"]:
        """A wall between tokens of a window that rolling brought together across the frame's edge; made once."""
        where = device or torch.device("cpu")
        if where not in self._walls:
            self._walls[where] = self._made_walls().to(where)
        return self._walls[where]

    def _made_walls(self) -> Float[Tensor, "w 1 s s"]:
        _, rows, columns = self.grid
        region = torch.zeros(self.grid)
        for axis, size in ((1, rows), (2, columns)):
            wrapped = (torch.arange(size) >= size - self.shift).float()  # after rolling, these come from the start
            region += (axis * wrapped).view([-1 if d == axis else 1 for d in range(3)])
        rolled = region.flatten()[None, None, :, None]
        flat = WindowPartition(grid=self.grid, side=self.side, all_bins=self.all_bins)
        inside = flat.parted(rolled)[:, 0, :, 0]
        return WALL * (inside[:, None, :, None] != inside[:, None, None, :]).float()


class Windows(nn.Module):
    """The windows of one attention module, under the name `windows` in it.

    Without `gate` they take the place of its global attention; with one they add to it, times a factor per head.
    """

    def __init__(
        self, partition: WindowPartition, *, gate: Callable[[], Float[Tensor, " heads"]] | None = None
    ) -> None:
        super().__init__()
        self.partition, self.gate, self.off = partition, gate, False

    def mixed(self, attend: Callable[[WindowPartition | None], Any]) -> Float[Tensor, "b n heads d"]:
        """`attend` over windows, globally or both; it is given the windows, or None for all tokens at once."""
        if self.off:
            return attend(None)  # type: ignore[no-any-return]
        if self.gate is None:
            return self.partition.whole(attend(self.partition))
        beside = self.partition.whole(attend(self.partition))
        everywhere: Tensor = attend(None)
        return everywhere + self.gate().to(beside.dtype)[:, None] * beside


def windows_in(network: nn.Module) -> list[nn.Module]:
    """Every layer's windows."""
    return [module for module in network.modules() if isinstance(module, Windows)]


@contextlib.contextmanager
def turned_off(parts: Sequence[nn.Module]) -> Iterator[None]:
    """The plain network, without these parts of it: each has a flag `off`."""
    for part in parts:
        part.off = True  # type: ignore[assignment]
    try:
        yield
    finally:
        for part in parts:
            part.off = False  # type: ignore[assignment]
