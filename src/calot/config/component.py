"""The base of every component: a frozen dataclass whose fields are held to what is declared beside them."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from typing import Any

from calot.config.fields import marks
from calot.config.holding import held
from calot.errors import CalotError, FieldError

_together: ContextVar[bool] = ContextVar("_together", default=False)


class Component:
    """Settings that also carry their behaviour. Subclasses are `@dataclass(frozen=True, kw_only=True)`.

    Each field is held to its annotation when an instance is made (`config.fields` has the ranges); `__post_init__` of
    a subclass then checks the rules between fields. Raises FieldError naming class, field and value.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        own = cls.__dict__.get("__post_init__")
        if own is not None:
            setattr(cls, "__post_init__", _after_the_fields(own))  # noqa: B010  # mypy knows it as a method

    def __post_init__(self) -> None:
        _hold_fields(self)

    def idle(self) -> tuple[str, ...]:
        """Fields that nothing reads at these settings, such as the shape of what never happens. A receipt asks of
        every other field of a new component that another value makes a difference."""
        return ()


def _hold_fields(component: Any) -> None:
    cls: Any = type(component)
    for name, hint in field_types(cls).items():
        value = getattr(component, name)
        kept = held(value, hint, where=f"{cls.__name__}.{name}")
        if kept is not value:
            object.__setattr__(component, name, kept)


def _after_the_fields(own: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(own)
    def __post_init__(self: Any) -> None:
        _hold_fields(self)
        if not _together.get():
            try:
                own(self)
            except CalotError:
                raise
            except (ValueError, TypeError, ArithmeticError) as error:
                name = type(self).__name__
                raise FieldError(str(error) if str(error).startswith(name) else f"{name}: {error}") from error

    return __post_init__


def field_types(cls: Any) -> dict[str, Any]:
    """A dataclass's fields with their annotations, ranges and all."""
    return _field_types(cls)


@functools.cache
def _field_types(cls: Any) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise CalotError(f"{cls.__name__}: the types of its fields cannot be read ({error})") from error
    return {f.name: hints[f.name] for f in fields(cls)}


def marked_fields(value: Any, kind: type, *, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field inside a value whose annotation carries a mark of this kind: its dotted path and what it holds."""
    if isinstance(value, tuple):
        for place, part in enumerate(value):
            yield from marked_fields(part, kind, prefix=f"{prefix}{place}.")
    elif is_dataclass(value) and not isinstance(value, type):
        for name, hint in field_types(type(value)).items():
            inner = getattr(value, name)
            if marks(hint, kind):
                yield f"{prefix}{name}", inner
            yield from marked_fields(inner, kind, prefix=f"{prefix}{name}.")


@contextmanager
def checked_together() -> Iterator[None]:
    """Inside, rules between fields are not checked: for changes that make sense only together.

    The caller must call `check` on the result.
    """
    token = _together.set(True)
    try:
        yield
    finally:
        _together.reset(token)


def check(value: Any) -> None:
    """Check a value and all components inside it again, from the inside out. Raises FieldError."""
    if isinstance(value, tuple):
        for part in value:
            check(part)
    elif is_dataclass(value) and not isinstance(value, type):
        for f in fields(value):
            check(getattr(value, f.name))
        if isinstance(value, Component):
            value.__post_init__()
