"""Where two values differ, field by field."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from calot.config.json_form import to_json
from calot.config.named import item_names
from calot.config.sources import is_calots, tag_of


@dataclass(frozen=True)
class Difference:
    """One field, by dotted path, in which two values differ; `None` also stands for an absent field."""

    field: str
    baseline: Any
    value: Any

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {"field": self.field, "baseline": to_json(self.baseline), "value": to_json(self.value)}


def difference(baseline: Any, value: Any) -> list[Difference]:
    """Every leaf that differs, in the value's order."""
    old, new = flatten(baseline), flatten(value)
    keys = list(new) + [k for k in old if k not in new]
    return [Difference(k, old.get(k), new.get(k)) for k in keys if old.get(k) != new.get(k) or (k in old) != (k in new)]


def flatten(value: Any, *, prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted path; a component adds its class's name under the path itself."""
    if is_dataclass(value) and not isinstance(value, type):
        leaves: dict[str, Any] = {prefix: component_name(type(value))} if prefix else {}
        for f in fields(value):
            leaves |= flatten(getattr(value, f.name), prefix=f"{prefix}.{f.name}".lstrip("."))
        return leaves
    if isinstance(value, (tuple, list)) and any(is_dataclass(v) for v in value):
        names = item_names(value)
        leaves = {prefix: ", ".join(names)} if names else {f"{prefix}.length": len(value)}
        for name, v in zip(names or range(len(value)), value, strict=True):
            leaves |= flatten(v, prefix=f"{prefix}.{name}")
        return leaves
    return {prefix: value}


def component_name(cls: type) -> str:
    """`FocalLoss`, or for one of the user's own `mine.py:MyLoss`."""
    return cls.__name__ if is_calots(cls) else tag_of(cls, where=cls.__name__)
