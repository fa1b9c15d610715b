"""What a field admits, declared beside it: `gamma: NonNegative = 2.0`. Every number of every component has a range."""

from __future__ import annotations

import math
import re
import types
import typing
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar


@dataclass(frozen=True)
class Range:
    """The numbers a field admits: `ge` and `le` are included, `gt` and `lt` not. Applies to each item of a list."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def admits(self, value: Any) -> bool:
        """Whether every number in a value lies within."""
        return all(self._holds(number) for number in _numbers(value))

    def _holds(self, number: float) -> bool:
        return (
            math.isfinite(number)
            and (self.ge is None or number >= self.ge)
            and (self.gt is None or number > self.gt)
            and (self.le is None or number <= self.le)
            and (self.lt is None or number < self.lt)
        )

    def __str__(self) -> str:
        if self.ge is not None and self.le is not None:
            return f"from {self.ge:,} to {self.le:,}"
        ends = (("at least", self.ge), ("above", self.gt), ("at most", self.le), ("below", self.lt))
        return " and ".join(f"{word} {end:,}" for word, end in ends if end is not None)


def _numbers(value: Any) -> list[Any]:
    """The numbers in a value: itself, or those of a list or of a component that can be walked."""
    if isinstance(value, (int, float)):
        return [] if isinstance(value, bool) else [value]
    return [] if value is None or isinstance(value, str) else [n for v in value for n in _numbers(v)]


@dataclass(frozen=True)
class Text:
    """The texts a field admits: not empty, no control characters, at most `longest` bytes, `pattern` if there is one.

    `says` is the pattern in words.
    """

    longest: int = 4096
    pattern: str = r"(?s:.+)"
    says: str = ""

    def admits(self, value: Any) -> bool:
        """Whether a text may stand here."""
        plain = not any(unicodedata.category(character)[0] == "C" for character in value)
        return plain and bool(re.fullmatch(self.pattern, value)) and len(value.encode()) <= self.longest

    def __str__(self) -> str:
        return f"({self.says or 'without control characters'}; at most {self.longest:,} bytes)"


@dataclass(frozen=True)
class OfLayers:
    """Marks layer numbers of the backbone: they must exist there, and are rescaled with its depth."""

    def admits(self, value: Any) -> bool:
        """Whether at least one layer is named, and none twice."""
        return 0 < len(value) == len(set(value))

    def __str__(self) -> str:
        return "(each once, at least one)"


def layers_at_depth(numbers: Sequence[int], *, layers: int, of: int) -> tuple[int, ...]:
    """Layer numbers of a network of `of` layers as those at the same fraction of the depth of one of `layers`."""
    return tuple((n % of) * layers // of for n in numbers)


@dataclass(frozen=True)
class Since:
    """Marks a field that files of earlier versions lack: `before` is what calot did without it.

    Such a file is read with `before`, and fingerprints leave the field out while it holds that.
    """

    version: str
    before: Any = None


M = TypeVar("M")


def marks(hint: Any, kind: type[M]) -> list[M]:
    """The marks of one kind that a field's annotation carries."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        return [mark for mark in inner[1:] if isinstance(mark, kind)] + marks(inner[0], kind)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [mark for option in inner for mark in marks(option, kind)]
    return []


Count = Annotated[int, Range(ge=1, le=1_000_000)]
Natural = Annotated[int, Range(ge=0, le=1_000_000)]
Size = Annotated[int, Range(ge=1, le=65_536)]
Fraction = Annotated[float, Range(ge=0, le=1)]
#: A fraction below 1: dropout, drop path, label smoothing.
FractionBelowOne = Annotated[float, Range(ge=0, lt=1)]
NonNegative = Annotated[float, Range(ge=0, le=1e6)]
Positive = Annotated[float, Range(gt=0, le=1e6)]
LearningRate = Annotated[float, Range(gt=0, le=100)]
LayerNumbers = Annotated[tuple[int, ...], Range(ge=-1000, le=999), OfLayers()]
Seed = Annotated[int, Range(ge=0, lt=2**31)]
#: A file, a folder or a name elsewhere.
Path = Annotated[str, Text()]
#: A name that becomes part of others: of a key, a column, a tensor.
Key = Annotated[str, Text(longest=60, pattern=r"[^\W\d]\w*", says="letters, digits and _, no digit first")]
#: A name that a folder can have on every system.
Name = Annotated[
    str,
    Text(
        longest=100,
        pattern=r"(?i:(?!(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$))\w[\w.-]*(?<![.]))",
        says="a folder's name on any system (letters, digits, _, - and . only; none that Windows reserves)",
    ),
]
