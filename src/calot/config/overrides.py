"""`key=value` changes of a value: read one by one, applied all at once, so that their order cannot matter."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from calot.config.component import field_types
from calot.config.difference import flatten
from calot.config.expressions import component_classes_of, read_expression
from calot.config.fields import OfLayers, marks
from calot.config.holding import element, shown
from calot.config.named import item_names, place_of
from calot.errors import CalotError, FieldError, nearest_name

T = TypeVar("T")


@dataclass(frozen=True)
class Override:
    """One change: what was typed, which field it means, and the value it has there.

    `scales` says that a scale maps it as it would in a file: components and numbers of layers; anything else is
    taken as typed, at whatever scale.
    """

    typed: str
    path: tuple[str, ...]
    value: Any
    scales: bool

    @property
    def field(self) -> str:
        """The field by its dotted path."""
        return ".".join(self.path)


def is_override(word: str) -> bool:
    """Whether a word of a command is `key=value`, and no path that happens to hold an `=`."""
    key, sign, _ = word.partition("=")
    return bool(sign) and not (word.endswith(".py") and ("/" in key or "\\" in key or os.path.isfile(word)))


def apply_overrides(value: T, texts: Sequence[str]) -> T:
    """The value with changes such as `train.lr=1e-4`, `loss=FocalLoss(gamma=1)`, `protocol=all-frames`.

    Raises CalotError for an unknown key (naming the nearest), a value that its field does not admit, changes that
    contradict each other, and a text without `=`.
    """
    return with_overrides(value, read_overrides(value, texts))


def read_overrides(value: Any, texts: Sequence[str], *, package: str | None = None) -> tuple[Override, ...]:
    """What each text changes; `package` is where the user's own components are."""
    found: list[Override] = []
    for text in texts:
        key, sign, raw = text.partition("=")
        if not sign or not key.strip():
            raise CalotError(f"{shown(text)} is not key=value")
        path = tuple(key.strip().split("."))
        hint = _hint(value, path, whole=value, key=key.strip())
        path = _by_place(value, path)
        new = read_expression(raw.strip(), hint, key=key.strip(), package=package)
        one = Override(text, path, new, scales=bool(marks(hint, OfLayers)) or _holds_components(new))
        for other in found:
            _require_apart(other, one)
        if one.path not in {o.path for o in found}:
            found.append(one)
    return tuple(found)


def with_overrides(value: T, overrides: Sequence[Override]) -> T:
    """The value with all changes applied together. Raises CalotError where they do not fit together."""
    return value if not overrides else _set(value, {o.path: o for o in overrides})


def value_at(value: Any, path: tuple[str, ...]) -> Any:
    """A field's value, by its path; a number counts places of a list."""
    for name in path:
        value = value[int(name)] if isinstance(value, tuple) else getattr(value, name)
    return value


def _require_apart(one: Override, other: Override) -> None:
    if one.path == other.path and one.value != other.value:
        raise CalotError(f"{one.typed} and {other.typed}: one field is given twice, with two values")
    short, long = sorted((one, other), key=lambda o: len(o.path))
    if short.path != long.path and long.path[: len(short.path)] == short.path:
        raise CalotError(
            f"{short.typed} sets all of {short.field}, and {long.typed} changes part of it: give one of them, "
            f"{short.field}=...({long.path[-1]}=...)"
        )


def _by_place(value: Any, path: tuple[str, ...]) -> tuple[str, ...]:
    """The same path with an item's number where it gave its name, so that one field has one path."""
    if not path:
        return ()
    name = str(place_of(value, path[0])) if isinstance(value, tuple) else path[0]
    inner = value[int(name)] if isinstance(value, tuple) else getattr(value, name)
    return (name, *_by_place(inner, path[1:]))


def _set(value: Any, changes: dict[tuple[str, ...], Override]) -> Any:
    inner: dict[str, dict[tuple[str, ...], Override]] = {}
    for path, override in changes.items():
        inner.setdefault(path[0], {})[path[1:]] = override
    if isinstance(value, tuple):
        parts = list(value)
        for place, below in inner.items():
            parts[int(place)] = _new(parts[int(place)], below)
        return tuple(parts)
    made = {name: _new(getattr(value, name), below) for name, below in inner.items()}
    try:
        return replace(value, **made)
    except (CalotError, TypeError, ValueError) as error:
        raise FieldError(f"{' '.join(o.typed for o in changes.values())}: {error}") from None


def _new(value: Any, below: dict[tuple[str, ...], Override]) -> Any:
    return below[()].value if () in below else _set(value, below)


def _holds_components(value: Any) -> bool:
    return is_dataclass(value) or (isinstance(value, tuple) and any(_holds_components(v) for v in value))


def _hint(value: Any, path: tuple[str, ...], *, whole: Any, key: str, hint: Any = None) -> Any:
    """What the field at a path admits. Raises CalotError where the value has no such field."""
    if not path:
        return hint
    name = path[0]
    if isinstance(value, tuple):
        place = place_of(value, name)
        if place is None:
            named = f": {', '.join(item_names(value))}" if item_names(value) else ""
            raise CalotError(f"unknown key {key!r}: {name!r} is not a place in a list of {len(value)}{named}")
        return _hint(value[place], path[1:], whole=whole, key=key, hint=element(hint, place))
    if not is_dataclass(value):
        others = [c.__name__ for c in component_classes_of(hint) if name in field_types(c)]
        remedy = f"; give a component, such as {others[0]}({name}=...)" if others else ""
        raise CalotError(f"unknown key {key!r}: {name!r} is inside {shown(value)}{remedy}")
    known = field_types(type(value))
    if name not in known:
        raise CalotError(f"unknown key {key!r}: {_unknown(value, name, whole=whole, hint=hint)}")
    return _hint(getattr(value, name), path[1:], whole=whole, key=key, hint=known[name])


def _unknown(value: Any, name: str, *, whole: Any, hint: Any) -> str:
    """Say where a misspelt or misplaced key may belong: in another component, or elsewhere in the tree."""
    kind, known = type(value).__name__, [f.name for f in fields(value)]
    others = [c.__name__ for c in component_classes_of(hint) if name in field_types(c)]
    if others:
        have = "has" if len(others) == 1 else "have"
        return f"{kind} has no field {name!r}; {', '.join(others)} {have}: give {others[0]}({name}=...)."
    places = list(_places(whole, name))
    if places and not difflib.get_close_matches(name, known, n=1, cutoff=0.7):
        return f"{kind} has no field {name!r}. Did you mean {' or '.join(places[:4])}?"
    return f"{kind} has no field {name!r}.{nearest_name(name, among=known)}"


def _places(whole: Any, name: str) -> Iterator[str]:
    """Dotted keys whose last part is a name, or nearly so, or its initials; exact ones first."""
    leaves = [key for key in flatten(whole) if not key.endswith(".length")]
    by_last: dict[str, list[str]] = {}
    for key in leaves:
        by_last.setdefault(key.rpartition(".")[2], []).append(key)
    close = difflib.get_close_matches(name, by_last, n=3, cutoff=0.75)
    initials = [last for last in by_last if (len(last) > 1 and last in _initials(name)) or name in _initials(last)]
    for last in dict.fromkeys([*([name] if name in by_last else []), *close, *initials]):
        yield from sorted(by_last[last], key=lambda key: (key.count("."), leaves.index(key)))


def _initials(name: str) -> set[str]:
    words = name.replace("-", "_").split("_")
    return {"".join(word[0] for word in words)} if len(words) > 1 and all(words) else set()
