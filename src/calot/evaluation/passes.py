"""Passes in evaluation mode over the clips that an epoch is judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from calot.data.dataset import ClipDataset, batches, uploaded
from calot.evaluation.predict import score
from calot.out_of_memory import ClipsAtATime, while_scoring
from calot.processes import ALONE, Processes
from calot.types import Batch, Outputs

Observer = Callable[[Outputs, Batch], None]


@dataclass(frozen=True, kw_only=True)
class Passes:
    """Validation, and a fixed subset of the training clips as they are stored: at most `subset` of `clean`.

    `check` is called after each batch and may raise, for a signal that asks for an end. Several `processes` share the
    batches of a pass; only observers that are `PassObserver`s can look on then.
    """

    val: ClipDataset
    clean: ClipDataset
    subset: int
    accelerator: Accelerator
    batch_size: int
    workers: int
    check: Callable[[], None]
    processes: Processes = ALONE
    at_a_time: ClipsAtATime = field(default_factory=while_scoring)

    @property
    def chosen(self) -> NDArray[np.int64]:
        """The places of the training clips that are scored, the same in every epoch."""
        count = min(self.subset, len(self.clean))
        return np.sort(np.random.default_rng(0).permutation(len(self.clean))[:count])

    def logits(
        self, model: nn.Module, *observers: Observer, clips: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """The criteria's logits of the validation clips: all of them, or those at these places."""
        return self._score(model, dataset=self.val, indices=clips, observers=observers)

    def clean_logits(self, model: nn.Module, *observers: Observer) -> NDArray[np.float32]:
        """The criteria's logits of the chosen training clips."""
        return self._score(model, dataset=self.clean, indices=self.chosen, observers=observers)

    def val_batches(self, clips: range | None = None) -> Iterator[Batch]:
        """Validation clips on the device, for an objective that scores something other than the criteria: all of them
        in every process, or those asked for. One that shares them out joins what its `processes` found."""
        device, asked = self.accelerator.device, range(len(self.val)) if clips is None else clips
        order = np.arange(asked.start, asked.stop)
        how = {"batch_size": self.batch_size, "workers": self.workers, "pin": device.type == "cuda"}
        for _, batch in uploaded(batches(self.val, order=order, epoch=0, **how), device=device):
            yield batch
            self.check()

    def _score(self, model: nn.Module, **what: Any) -> NDArray[np.float32]:
        with torch.no_grad():
            scored = score(
                model,
                accelerator=self.accelerator,
                batch_size=self.batch_size,
                workers=self.workers,
                processes=self.processes,
                at_a_time=self.at_a_time,
                on_batch=lambda count: self.check(),
                **what,
            )
        logits: NDArray[np.float32] = scored.logits
        return logits
