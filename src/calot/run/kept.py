"""What was read of a data folder, kept by all that it was asked with."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Kept:
    """Values by question: one that was asked before is answered with the very same object, which nobody may change.

    A question holds the settings that its answer is made with, all of them and as values; one with a part that cannot
    be hashed (a component of the user's own with a list in it) is never kept.
    """

    _answers: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, question: tuple[Any, ...], make: Callable[[], T]) -> T:
        """The kept answer, or what `make` gives, which is then kept; what raises is not."""
        try:
            known = question in self._answers
        except TypeError:
            return make()
        if not known:
            self._answers[question] = make()
        found: T = self._answers[question]
        return found
