"""What a component leaves to chance while it trains, turned off in one way for all of them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

from calot.config.component import Component

T = TypeVar("T")

_CHANCE = ("dropout", "drop_path")


class Regularised(Component):
    """A frozen component that may have dropout; every kind of component of the model is one."""

    def without_dropout(self: T) -> T:
        """The same with nothing left to chance: each field that is `dropout` or `drop_path`, or ends so, is 0.

        A component that draws in another way overrides this. Control 9 of a receipt runs the model twice and names the
        part that still draws.
        """
        changed: dict[str, Any] = {}
        component: Any = self
        for name in (f.name for f in fields(component)):
            now = getattr(self, name)
            if name.endswith(_CHANCE) and isinstance(now, (int, float)):
                changed[name] = 0.0
            elif isinstance(now, Regularised):
                changed[name] = now.without_dropout()
        return replace(component, **changed)  # type: ignore[no-any-return]
