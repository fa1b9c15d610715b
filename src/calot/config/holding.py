"""One validator: a value checked against a field's annotation, for overrides, `.py` files and JSON alike."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from calot.errors import FieldError

_PLAIN = {int: "a whole number", float: "a number", str: "text", bool: "True or False", type(None): "None"}


def held(value: Any, hint: Any, *, where: str) -> Any:
    """The value as the field stores it: an int becomes a float where a float is expected, a list becomes a tuple.

    Raises FieldError naming `where`, the value, and what the field admits.
    """
    kept, fine = _held(value, hint)
    if not fine:
        raise FieldError(f"{where}={shown(value)}: expected {in_words(hint)}")
    return kept


def _held(value: Any, hint: Any) -> tuple[Any, bool]:
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        inner, *limits = typing.get_args(hint)
        kept, fine = _held(value, inner)
        return kept, fine and all(limit.admits(kept) for limit in limits if hasattr(limit, "admits"))
    if origin in (typing.Union, types.UnionType):
        options = sorted(typing.get_args(hint), key=lambda option: option is not type(value))
        return next(
            ((kept, True) for option in options for kept, fine in [_held(value, option)] if fine), (value, False)
        )
    if origin is typing.Literal:
        return value, any(type(value) is type(option) and value == option for option in typing.get_args(hint))
    if origin is tuple:
        return _held_tuple(value, typing.get_args(hint))
    if hint is Any:
        return value, True
    if hint is None or hint in _PLAIN:
        return _held_plain(value, type(None) if hint is None else hint)
    return _held_component(value, hint)


def _held_plain(value: Any, kind: Any) -> tuple[Any, bool]:
    if kind is float and (isinstance(value, float) or (type(value) is int and abs(value) < 2**63)):
        return float(value) + 0.0, math.isfinite(value)  # a library's number is a plain one; minus zero is zero
    return value, type(value) is kind and (kind is not int or abs(value) < 2**63)


def _held_tuple(value: Any, inner: tuple[Any, ...]) -> tuple[Any, bool]:
    if not isinstance(value, (tuple, list)):
        return value, False
    hints = inner[:1] * len(value) if inner[1:] == (...,) else inner
    if len(hints) != len(value):
        return value, False
    pairs = [_held(v, h) for v, h in zip(value, hints, strict=True)]
    return tuple(kept for kept, _ in pairs), all(fine for _, fine in pairs)


def _held_component(value: Any, hint: Any) -> tuple[Any, bool]:
    of = getattr(hint, "of", None)
    if of is not None and isinstance(value, (tuple, list)):  # numbers in the order of their names
        try:
            value = of(value)
        except (TypeError, ValueError, OverflowError):
            return value, False
    own = vars(type(value)).get("__dataclass_params__")
    return value, isinstance(value, hint) and own is not None and own.frozen


def in_words(hint: Any) -> str:
    """What a field admits, in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return " ".join([in_words(inner[0]), *(str(limit) for limit in inner[1:])])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(in_words(option) for option in inner)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is tuple:
        return f"a list of ({in_words(inner[0])})" if inner[1:] == (...,) else f"a list of {len(inner)}"
    names = [c.__name__ for c in component_classes(hint)]
    return " or ".join(names) if names else _PLAIN.get(hint, getattr(hint, "__name__", str(hint)))


def component_classes(hint: Any) -> Iterator[type]:
    """The dataclasses a field's annotation admits: the class itself, its subclasses, and the members of a union."""
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        if is_dataclass(hint) and not getattr(hint, "__abstractmethods__", None):
            yield hint
        subclasses: list[type] = hint.__subclasses__() if hint is not object else []
        for sub in subclasses:
            yield from component_classes(sub)
        return
    for member in typing.get_args(hint):
        yield from component_classes(member)


def element(hint: Any, place: int) -> Any:
    """What a list's element at a place is checked against, or None where no list is allowed."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return element(inner[0], place)
    if origin in (typing.Union, types.UnionType):
        return next((found for option in inner if (found := element(option, place)) is not None), None)
    if origin is tuple:
        return inner[0] if inner[1:] == (...,) else inner[place] if place < len(inner) else None
    return float if hasattr(hint, "of") else None


def takes_text(hint: Any) -> bool:
    """Whether a field is a plain text (or None)."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return takes_text(inner[0])
    if origin in (typing.Union, types.UnionType):
        return any(takes_text(option) for option in inner)
    return hint is str or (origin is typing.Literal and isinstance(inner[0], str))


def shown(value: Any) -> str:
    """A value for a message, always short."""
    try:
        text = repr(value)
    except Exception:  # a number of 10,000 digits, a list inside itself, a class whose repr fails
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 120 else f"{text[:80]}... ({len(text):,} characters)"
