"""What may look on while a stage trains. The loop tells it where it stands; nothing that it does changes a step."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from torch import Tensor

from calot.data.preparation import Watch
from calot.train.progress import Progress
from calot.types import Batch

if TYPE_CHECKING:
    from calot.train.loop import Fit


class Observer:
    """One that sees nothing."""

    def looks(self, *, progress: Progress, number: int) -> bool:
        """Whether it needs the frames of an epoch's effective batch number `number`."""
        return False

    def loaded(self, batch: Batch, *, progress: Progress, number: int) -> Watch | None:
        """The effective batch number `number` of an epoch, as loaded and not yet on the device, is about to be
        prepared; what is given sees each part of that."""
        return None

    def step(self, fit: Fit, batch: Batch, *, progress: Progress) -> AbstractContextManager[None]:
        """Around one optimiser step over an effective batch."""
        return contextlib.nullcontext()

    def shares(self, fit: Fit, shares: Mapping[str, Tensor]) -> None:
        """A micro-batch's share of each loss term, with its graph, before anything is propagated back."""

    def scoring(self, fit: Fit, *, progress: Progress) -> AbstractContextManager[None]:
        """Around an epoch's evaluation."""
        return contextlib.nullcontext()
