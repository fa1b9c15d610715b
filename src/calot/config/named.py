"""Lists whose items have names: `loss.terms.segmentation.weight` reads as `loss.terms.1.weight`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any


def item_names(items: Sequence[Any]) -> tuple[str, ...]:
    """The items' names where each is a component with a `name` that no other has, else nothing."""
    components = [v for v in items if is_dataclass(v) and "name" in {f.name for f in fields(v)}]
    names = tuple(str(getattr(v, "name", "")) for v in components)
    return names if len(names) == len(items) == len(set(names)) else ()


def place_of(items: Sequence[Any], key: str) -> int | None:
    """An item's position, by its name or its number from 0; None where there is no such item."""
    names = item_names(items)
    if key in names:
        return names.index(key)
    return int(key) if key in map(str, range(len(items))) else None


def by_name(items: Any) -> dict[str, Any] | None:
    """A list of named items as a dict, the empty list too; None for anything else."""
    if not isinstance(items, tuple) or (items and not item_names(items)):
        return None
    return dict(zip(item_names(items), items, strict=True))
