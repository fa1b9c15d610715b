"""What memory does not suffice for is done again with fewer clips at a time: a step, whose effective batch stays, or a
batch that is scored or encoded."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from calot.errors import first_line
from calot.machine_errors import is_out_of_memory
from calot.memory import give_back
from calot.types import Batch

T = TypeVar("T")


def _unsaid(text: str) -> None:
    """Nobody is told."""


@dataclass
class ClipsAtATime:
    """How many clips a forward pass takes since memory ran out: `fewer`, or as many as were asked for while None.

    `setting` is the one that asks for them, `stays` what does not change.
    """

    fewer: int | None = None
    say: Callable[[str], None] = field(default=_unsaid)
    setting: str = "compute.micro_batch"
    stays: str = "; the effective batch stays"

    def of(self, asked: int | None, *, whole: int) -> int:
        """Clips per pass, of `whole` that are to go through; `asked` is what the setting says."""
        return min(n for n in (whole, asked, self.fewer) if n is not None)

    def lower(self, error: BaseException, *, tried: int, where: str) -> None:
        """Halve it and free what the failed attempt left; raises the error where it is another one, or one clip is too
        many already."""
        if tried <= 1 or not is_out_of_memory(error):
            raise error
        self.fewer = tried // 2
        self.say(
            f"out of memory in {where} with {tried} clips at a time ({first_line(error)}): continuing with "
            f"{self.fewer}{self.stays}. {self.setting}={self.fewer} spares the next run this."
        )

    def parts(self, batch: Batch, *, compute: Callable[[Batch], T], where: str) -> Iterator[tuple[T, Batch]]:
        """A batch that keeps nothing for a gradient, whole or in as few parts as fit, each with what it gives."""
        done = 0
        while done < len(batch):
            left = len(batch) - done
            size = self.of(None, whole=left)
            part = batch if size == len(batch) else batch.of(torch.arange(done, done + size, device=batch.index.device))
            found = None
            try:
                found = compute(part)
            except (RuntimeError, MemoryError) as error:
                self.lower(error, tried=size, where=where)
            if found is None:  # out here, where the error holds nothing any more
                let_go(batch.index.device)
                continue
            yield found, part
            done += size


def while_scoring(say: Callable[[str], None] = _unsaid) -> ClipsAtATime:
    """For passes that train nothing."""
    return ClipsAtATime(say=say, setting="compute.evaluation_batch", stays="")


def let_go(device: torch.device) -> None:
    """Free what a failed attempt left."""
    gc.collect()
    give_back()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class Draws:
    """Where torch's random draws stand, to draw the same again."""

    cpu: torch.Tensor
    gpu: torch.Tensor | None
    device: torch.device

    @classmethod
    def now(cls, device: torch.device) -> Draws:
        gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), gpu, device)

    def again(self) -> None:
        """From here on draw what was drawn since."""
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.gpu, self.device)
