"""Which frames a clip shows: a run of them, or the moments at which the picture changed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from calot.config.component import Component
from calot.config.fields import Count
from calot.errors import CalotError

if TYPE_CHECKING:
    from calot.data.clips import Protocol


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Around each labelled frame: its row, how many rows a stride is, how many of the clip's frames a protocol puts
    before it, and how many strides its unbroken run reaches back and on. `change` is that of every row of the split
    from the one before it, where a rule reads it."""

    row: NDArray[np.int64]
    stride: int
    before: int
    oldest: NDArray[np.int64]
    newest: NDArray[np.int64]
    change: NDArray[np.float64] | None = None


class Padding(Component, ABC):
    """Which of a clip's frames are repeated where it must be made longer."""

    @abstractmethod
    def places(self, length: int, *, total: int) -> NDArray[np.int64]:
        """For each of `total` places which of the `length` frames, oldest first, stands there."""


@dataclass(frozen=True)
class PadWithOldest(Padding):
    """The oldest frame is repeated in front as often as needed; the clip still ends on its newest frame."""

    def places(self, length: int, *, total: int) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(total - length, dtype=np.int64), np.arange(length)])


@dataclass(frozen=True)
class PadWithLast(Padding):
    """The newest frame is repeated at the end, as the study's five-frame clips do."""

    def places(self, length: int, *, total: int) -> NDArray[np.int64]:
        return np.concatenate([np.arange(length), np.full(total - length, length - 1)])


@dataclass(frozen=True)
class ClipRule(Component):
    """`length` frames, `stride` seconds apart; where `pad_to` is given, `padding` makes the clip that long."""

    reads_change: ClassVar[bool] = False

    length: Count = 16
    stride: Count = 1
    pad_to: Count | None = None
    padding: Padding = PadWithOldest()

    def __post_init__(self) -> None:
        if self.pad_to is not None and self.pad_to < self.length:
            raise CalotError(
                f"ClipRule.pad_to={self.pad_to} is less than length={self.length}. Use None or a larger one."
            )

    @property
    def frames(self) -> int:
        """How many frames a clip has in the end."""
        return self.pad_to or self.length

    def offsets(self, *, before: int) -> NDArray[np.int64]:
        """Each place's frame, in strides from the labelled one, which has `before` frames before it."""
        return self.padding.places(self.length, total=self.frames) - before

    def labelled_place(self, protocol: Protocol) -> int:
        """Where the labelled frame first sits in the clip, counted from 0."""
        return int(np.flatnonzero(self.offsets(before=protocol.before(self.length)) == 0)[0])

    def steps(self, around: Surroundings) -> NDArray[np.int64]:
        """Each clip's frames `(n, t)`, in strides from the labelled one; a missing frame is its run's nearest."""
        offsets = self.offsets(before=around.before)[None, :]
        return np.clip(offsets, -around.oldest[:, None], around.newest[:, None])

    def shortened(self, factor: float) -> ClipRule:
        """The same rule for clips `factor` times as long: 16 frames become 8, 5 padded to 16 become 3 padded to 8."""
        length = max(1, math.floor(self.length * factor + 0.5))
        pad_to = None if self.pad_to is None else max(length, math.floor(self.pad_to * factor + 0.5))
        return replace(self, length=length, pad_to=pad_to)


@dataclass(frozen=True)
class KeyMoments(ClipRule):
    """The `length` frames at equal quantiles of how much the picture has changed, of the last `window` strides.

    Long stills get few places, moments of change many; the last frame is always the labelled one, and no later frame is
    looked at, whatever the protocol. No label is read. Change is the mean absolute difference of grey thumbnails
    (`frame_change.py`).
    """

    reads_change: ClassVar[bool] = True

    window: Count = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < self.length:
            raise CalotError(f"KeyMoments.window={self.window} is shorter than length={self.length}. Use a longer one.")

    def labelled_place(self, protocol: Protocol) -> int:
        return int(np.flatnonzero(self.padding.places(self.length, total=self.frames) == self.length - 1)[0])

    def steps(self, around: Surroundings) -> NDArray[np.int64]:
        if around.change is None:
            raise CalotError("KeyMoments needs to know how much frames change, and this table is made without it.")
        since_start = np.cumsum(around.change)
        back = np.minimum(around.oldest, self.window - 1)
        chosen = [
            self._chosen(since_start[row - steps * around.stride : row + 1 : around.stride])
            for row, steps in zip(around.row.tolist(), back.tolist(), strict=True)
        ]
        return np.stack(chosen)[:, self.padding.places(self.length, total=self.frames)]

    def _chosen(self, total: NDArray[np.float64]) -> NDArray[np.int64]:
        """Of frames by how much has changed up to each, `length` at equal quantiles, in steps back from the last."""
        back, turn = len(total) - 1, np.arange(self.length)
        total = total - total[0] if total[-1] > total[0] else np.arange(len(total), dtype=np.float64)
        found = np.searchsorted(total, total[-1] * (np.linspace(0, 1, self.length) - 1e-9))
        found[-1] = back  # the labelled frame, however long nothing has changed
        found = np.maximum.accumulate(found - turn) + turn  # each frame once, where there are enough of them
        return np.asarray(np.maximum(np.minimum(found, back - turn[::-1]), 0) - back, dtype=np.int64)

    def shortened(self, factor: float) -> KeyMoments:
        short: Any = super().shortened(factor)
        return replace(short, window=max(short.length, math.floor(self.window * factor + 0.5)))  # type: ignore[no-any-return]
