"""Who scores an archive's operations: this process, or others that it starts (`local.py`, `ray_data.py`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from calot.archive.operations import Attempt, Operation, ScoringJob, attempt


class Engine(ABC):
    """Maps a job over operations. Engines differ in speed alone: each operation is scored in the same way."""

    @abstractmethod
    def attempts(self, job: ScoringJob, operations: Sequence[Operation]) -> Iterator[Attempt]:
        """One attempt at each operation, as they end; closing the iterator ends every process that it started.

        Raises CalotError where workers cannot begin.
        """


@dataclass(frozen=True)
class Inline(Engine):
    """One operation after the other in this process."""

    def attempts(self, job: ScoringJob, operations: Sequence[Operation]) -> Iterator[Attempt]:
        score = job.scorer.open()
        for operation in operations:
            yield attempt(operation, folder=job.folder, score=score)
