"""How predictions were made of other predictions: the views of test-time augmentation, the members of an ensemble.

Such a value travels in the table's own file, so that wherever the numbers are shown it can be said what they cost.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from calot.config.component import Component
from calot.config.fields import Count, Seed, Text
from calot.config.json_form import from_json, to_json
from calot.errors import CalotError

#: What is averaged. A mean of probabilities is kept as its logit, like every score.
Mean = Literal["logits", "probabilities"]
_Line = Annotated[str, Text()]


@dataclass(frozen=True, kw_only=True)
class MemberRun(Component):
    """A run whose model made predictions that went in, with its forward passes per clip; `unproven` is the stamp that
    its treatment has, empty where every check of its receipt holds."""

    name: _Line
    fingerprint: _Line
    seed: Seed
    passes: Count = 1
    unproven: str = ""

    def __str__(self) -> str:
        passes = "" if self.passes == 1 else f", {self.passes} passes"
        return f"{self.name} seed {self.seed} ({self.fingerprint[:12]}{passes})"


@dataclass(frozen=True, kw_only=True)
class Combination(Component, ABC):
    """A mean of several predictions per clip, of the runs `members`."""

    members: tuple[MemberRun, ...]
    mean: Mean = "logits"

    @property
    @abstractmethod
    def passes(self) -> int:
        """Forward passes that one clip costs."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the combined run is called; only the same combination has the same name."""

    @property
    @abstractmethod
    def seed(self) -> int:
        """The seed that its tables carry."""

    @property
    @abstractmethod
    def seeds(self) -> str:
        """The seeds of the models, for people."""

    @abstractmethod
    def identity(self) -> Any:
        """What makes two combinations the same treatment, as plain JSON."""

    @abstractmethod
    def what(self) -> str:
        """What was averaged, in words."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the rule and of what it was applied to."""
        value = [type(self).__name__, self.mean, self.identity()]
        return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def __str__(self) -> str:
        passes = f"{self.passes} forward pass{'' if self.passes == 1 else 'es'} per clip"
        return f"{self.what()}, mean of {self.mean}: {passes}"

    def to_json(self) -> Any:
        """Plain JSON."""
        return to_json(self)

    @staticmethod
    def from_json(data: Any, *, where: str) -> Combination:
        """Rebuild what `to_json` wrote. Raises CalotError naming the file for anything else."""
        try:
            if not (isinstance(data, dict) and str(data.get("_type")).startswith(f"{__name__}.")):
                raise CalotError(f"{str(data)[:60]!r} does not say how predictions were combined")
            found: Combination = from_json(data, Combination)
        except CalotError as error:
            raise CalotError(f"{where}: {error}. Make it again, or use the calot that wrote it.") from None
        return found


@dataclass(frozen=True, kw_only=True)
class ViewMean(Combination):
    """Test-time augmentation: one model's predictions of several views of each clip; `settings` are the views' own."""

    views: tuple[_Line, ...]
    settings: tuple[_Line, ...]

    @property
    def passes(self) -> int:
        return len(self.views)

    @property
    def name(self) -> str:
        more = self.views[1:] or self.views
        return f"{self.members[0].name} + tta {', '.join(more)}{'' if self.mean == 'logits' else f' ({self.mean})'}"

    @property
    def seed(self) -> int:
        return self.members[0].seed

    @property
    def seeds(self) -> str:
        return str(self.seed)

    def identity(self) -> Any:
        return [self.members[0].fingerprint, sorted(self.settings)]

    def what(self) -> str:
        return f"test-time augmentation, {_count(self.views, 'view')} ({', '.join(self.views)})"


@dataclass(frozen=True, kw_only=True)
class Ensemble(Combination):
    """Several runs' predictions of the same clips."""

    @property
    def passes(self) -> int:
        return sum(member.passes for member in self.members)

    @property
    def name(self) -> str:
        names = ", ".join(dict.fromkeys(member.name.split()[0] for member in self.members))
        return f"ensemble of {len(self.members)} ({names}) {self.fingerprint[:6]}"

    @property
    def seed(self) -> int:
        return min(member.seed for member in self.members)

    @property
    def seeds(self) -> str:
        return ", ".join(str(member.seed) for member in self.members)

    def identity(self) -> Any:
        return sorted([member.fingerprint, member.seed] for member in self.members)

    def what(self) -> str:
        return f"ensemble of {_count(self.members, 'run')} ({'; '.join(map(str, self.members))})"


def combination_in(record: dict[str, Any], *, where: Path) -> Combination | None:
    """What a run's experiment.json says of how it was combined; None for a run that was trained or imported."""
    stated = record.get("combination")
    return None if stated is None else Combination.from_json(stated, where=str(where))


def _count(things: Sequence[Any], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
