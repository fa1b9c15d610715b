"""What `--search key=log(1e-5,1e-3)` says: a range or a list of values for a field."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calot.errors import CalotError

_FORM = re.compile(r"\s*(log|float|int|choice)\((.*)\)\s*", re.DOTALL)
_EXPECTED = "expected key=log(1e-5,1e-3), key=float(0,0.1), key=int(1,4) or key=choice(a,b)"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A field to search: between `low` and `high` (`log`, `float`, `int`), or among `values` as typed (`choice`)."""

    key: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    values: tuple[str, ...] = ()

    def distribution(self, optuna: Any) -> Any:
        """The same for Optuna."""
        kinds = optuna.distributions
        if self.kind == "choice":
            return kinds.CategoricalDistribution(self.values)
        if self.kind == "int":
            return kinds.IntDistribution(int(self.low), int(self.high))
        return kinds.FloatDistribution(self.low, self.high, log=self.kind == "log")

    @property
    def first(self) -> Any:
        """Its lowest or first value."""
        return self.values[0] if self.values else int(self.low) if self.kind == "int" else self.low


def read_space(texts: Sequence[str]) -> tuple[Axis, ...]:
    """The fields to search. Raises CalotError for a text of another form, an empty range, a key given twice."""
    axes = []
    for text in texts:
        key, sign, said = text.partition("=")
        form = _FORM.fullmatch(said)
        if not sign or not key.strip() or form is None:
            raise CalotError(f"--search {text}: {_EXPECTED}")
        axes.append(_axis(text, key.strip(), form[1], split_values(form[2])))
    keys = [axis.key for axis in axes]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise CalotError(f"--search: {twice} is given twice")
    return tuple(axes)


def _axis(text: str, key: str, kind: str, values: Sequence[str]) -> Axis:
    if not all(values):
        raise CalotError(f"--search {text}: {_EXPECTED}")
    if kind == "choice":
        if len(set(values)) < len(values):
            raise CalotError(f"--search {text}: a value is given twice")
        return Axis(key=key, kind=kind, values=tuple(values))
    try:
        low, high = (float(int(v)) if kind == "int" else float(v) for v in values)
    except ValueError:
        raise CalotError(f"--search {text}: {_EXPECTED}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or (kind == "log" and low <= 0):
        raise CalotError(f"--search {text}: expected a lower and a higher number" + ", above 0" * (kind == "log"))
    return Axis(key=key, kind=kind, low=low, high=high)


def changes_of(params: Mapping[str, Any]) -> tuple[str, ...]:
    """The `key=value` changes that a trial's parameters mean; a number keeps every digit."""
    return tuple(f"{key}={value}" for key, value in params.items())


def split_values(values: str) -> list[str]:
    """Parts between the commas that stand in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for sign in values:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        depth += (sign in "([{") - (sign in ")]}") if not quote else 0
        if sign == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]
