"""Multi-block 3D masks, as V-JEPA draws them (Bardes et al. 2024, sec. 3.2; Assran et al. 2025).

Of a clip's grid of tokens (time, row, column), the union of a few blocks is hidden, and what is left is the context.
The arithmetic is that of V-JEPA 2's official collator (`src/masks/multiseq_multiblock3d.py` of its repository): one
size of block per batch, one place for each block of each clip. The draws come from another source of randomness.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from calot.config.component import Component
from calot.config.fields import Key, Positive, Range
from calot.errors import CalotError

#: Tokens along time, height and width, of a clip or of a block.
Extent = tuple[int, int, int]
#: Of a clip, the places (row, column) of a frame's tokens that show anatomy in any of its segmentation masks.
Anatomy = NDArray[np.bool_]

Share = Annotated[float, Range(gt=0, le=1)]

#: How often the places of a clip's blocks are drawn before no context counts as impossible.
_TRIES = 1000


@dataclass(frozen=True, kw_only=True)
class MultiBlock(Component):
    """Masks of one kind: `blocks` blocks, each of `spatial_scale` of a frame's tokens and `temporal_scale` of the bins.

    A block's height over its width is uniform between the two of `aspect`. `name` is that of the loss term.
    """

    reads_masks: ClassVar[bool] = False

    name: Key
    blocks: Annotated[int, Range(ge=1, le=64)]
    spatial_scale: Share
    temporal_scale: Share = 1.0
    aspect: tuple[Positive, Positive] = (0.75, 1.5)

    def __post_init__(self) -> None:
        if self.aspect[0] > self.aspect[1]:
            raise ValueError(f"aspect={self.aspect}: the first is the smallest, the second the largest")

    def size(self, grid: Extent, *, aspect: float) -> Extent:
        """The block of an aspect ratio, rounded to whole tokens and cut to the grid."""
        bins, height, width = grid
        tokens = int(height * width * self.spatial_scale)
        tall, wide = round(math.sqrt(tokens * aspect)), round(math.sqrt(tokens / aspect))
        return max(1, int(bins * self.temporal_scale)), min(tall, height), min(wide, width)

    def require(self, grid: Extent) -> None:
        """Raises CalotError where a block of some aspect ratio hides nothing, or the whole grid."""
        for aspect in np.linspace(*self.aspect, 1001):
            size = self.size(grid, aspect=float(aspect))
            if size == grid or 0 in size:
                what = "hides nothing of" if 0 in size else "covers"
                raise CalotError(
                    f"{self.name}.spatial_scale={self.spatial_scale}: a block of {size} tokens {what} the grid of "
                    f"{grid}; {'raise' if 0 in size else 'lower'} it"
                )

    def first(self, grid: Extent, *, size: Extent, rng: Generator, block: int, anatomy: Anatomy | None) -> Extent:
        """Where a block of this number begins: every place in which it lies whole is as likely."""
        bins, rows, columns = (int(rng.integers(0, whole - part + 1)) for whole, part in zip(grid, size, strict=True))
        return bins, rows, columns

    def hides(self, grid: Extent, *, size: Extent, rng: Generator, anatomy: Anatomy | None = None) -> NDArray[np.bool_]:
        """Which tokens of a clip are hidden: blocks in places drawn again until some token is left to see."""
        for _ in range(_TRIES):
            hidden = np.zeros(grid, dtype=np.bool_)
            for block in range(self.blocks):
                first = self.first(grid, size=size, rng=rng, block=block, anatomy=anatomy)
                hidden[tuple(slice(f, f + part) for f, part in zip(first, size, strict=True))] = True
            if not hidden.all():
                return hidden
        raise CalotError(
            f"{self.name}.blocks={self.blocks}: {_TRIES} draws hid all of {grid} tokens; take fewer or smaller blocks"
        )


@dataclass(frozen=True, kw_only=True)
class AnatomyBlocks(MultiBlock):
    """Blocks of the same sizes, of which a share, `on_anatomy`, have their centres on anatomy: on tokens that a
    segmentation mask of the clip gives any of the classes 1 to 4, each as likely. Segmentation masks are read, labels
    are not.

    A block is moved into the frame where it would reach out of it. Where a clip has no mask, or one without anatomy,
    its draws are those of `MultiBlock`. Blocks on little anatomy cover each other, and all clips of a batch predict as
    many tokens as the one with the fewest: the blocks that lie anywhere keep that number up.
    """

    reads_masks: ClassVar[bool] = True

    on_anatomy: Share = 0.5

    def first(self, grid: Extent, *, size: Extent, rng: Generator, block: int, anatomy: Anatomy | None) -> Extent:
        if anatomy is None or not anatomy.any() or block >= math.ceil(self.blocks * self.on_anatomy):
            return super().first(grid, size=size, rng=rng, block=block, anatomy=None)
        there = np.argwhere(anatomy)
        centre = there[int(rng.integers(len(there)))].tolist()
        rows, columns = (
            min(max(middle - part // 2, 0), whole - part)
            for middle, part, whole in zip(centre, size[1:], grid[1:], strict=True)
        )
        return int(rng.integers(0, grid[0] - size[0] + 1)), rows, columns


#: The two kinds as published: 8 blocks of 0.15 of a frame, 2 blocks of 0.7, both through all bins.
SHORT_RANGE = MultiBlock(name="short", blocks=8, spatial_scale=0.15)
LONG_RANGE = MultiBlock(name="long", blocks=2, spatial_scale=0.7)


@dataclass(frozen=True)
class Places:
    """Of each clip (b), the numbers of the tokens it shows and of those it hides, each in the order of the grid."""

    context: NDArray[np.int64]
    targets: NDArray[np.int64]


def draw_places(
    kind: MultiBlock,
    *,
    grid: Extent,
    clips: Sequence[int],
    where: Sequence[int],
    anatomy: Sequence[Anatomy] | None = None,
) -> Places:
    """Masks of one kind for the clips of one effective batch.

    `where` is the batch's place in the run, its first clip's place in the epoch last: all draws come from it, the
    kind's name and the clip, so that neither a stop nor the way a batch is cut changes them. `anatomy` is each clip's,
    for a kind that reads masks.
    """
    *before, start = where
    number = zlib.crc32(kind.name.encode())
    sizes = np.random.default_rng([*before, start, number])
    size = kind.size(grid, aspect=float(sizes.uniform(*kind.aspect)))
    rngs = [np.random.default_rng([*before, start + i, clip, number]) for i, clip in enumerate(clips)]
    seen = anatomy if anatomy is not None and kind.reads_masks else [None] * len(clips)
    return as_places([kind.hides(grid, size=size, rng=rng, anatomy=a) for rng, a in zip(rngs, seen, strict=True)])


def as_places(hidden: Sequence[NDArray[np.bool_]]) -> Places:
    """Masks as numbers of tokens, as many for each clip: the first ones, as many as the clip with the fewest has.

    As in the official collator, what is cut off lies at a clip's end: it is neither seen nor predicted.
    """
    seen = [np.flatnonzero(~mask) for mask in hidden]
    asked = [np.flatnonzero(mask) for mask in hidden]
    return Places(context=_equally_many(seen), targets=_equally_many(asked))


def _equally_many(rows: Sequence[NDArray[np.intp]]) -> NDArray[np.int64]:
    fewest = min(map(len, rows))
    return np.stack([row[:fewest] for row in rows]).astype(np.int64)
