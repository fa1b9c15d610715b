"""Every field inside a component that the baseline lacks, each with another value that should make a difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import chain
from typing import Any, Literal, get_args, get_origin

from calot.config.component import Component, field_types
from calot.errors import CalotError
from calot.experiment import Experiment
from calot.models.backbones.protocol import BackboneSpec
from calot.receipts.reverting import Path, at, with_fields
from calot.train.stage import Stage

#: What names a thing, limits that a short run need not reach, and random starts.
_NO_LEAVES = ("name", "patience", "clip_norm", "seed", "weights")


@dataclass(frozen=True)
class InnerField:
    """A field by its path, its value, and experiments in which it has another value, each with that value."""

    path: str
    value: str
    others: Iterator[tuple[str, Experiment]]


def inner_fields(experiment: Experiment, baseline: Experiment, path: Path) -> Iterator[InnerField]:
    """Each field inside a declared change, with other values of its own.

    Nothing, where both sides hold the same kind of component: its fields are declared one by one. A backbone's sizes
    and a stage's settings are not proved so.
    """
    mine, theirs = at(experiment, path), at(baseline, path)
    known = theirs if isinstance(theirs, tuple) else (theirs,)
    where = ".".join(path)
    if isinstance(mine, tuple):
        for place, item in enumerate(mine):
            if _proved(item) and item not in known:
                put = lambda new, place=place: (*mine[:place], new, *mine[place + 1 :])  # noqa: E731
                yield from _inside(experiment, path, item, f"{where}.{place}", put)
    elif _proved(mine) and type(mine) is not type(theirs):
        yield from _inside(experiment, path, mine, where, lambda new: new)


def _proved(value: Any) -> bool:
    return isinstance(value, Component) and not isinstance(value, (Stage, BackboneSpec))


def _inside(experiment: Experiment, path: Path, component: Any, where: str, put: Any) -> Iterator[InnerField]:
    for field, value, others in _fields(component, ()):
        tried = _tried(experiment, path, ((other, put(changed)) for other, changed in others))
        yield InnerField(f"{where}.{field}", str(value), tried)


def _tried(experiment: Experiment, path: Path, values: Iterator[tuple[Any, Any]]) -> Iterator[tuple[str, Experiment]]:
    for other, changed in values:
        try:
            yield str(other), with_fields(experiment, {path: changed})
        except (CalotError, ValueError, TypeError):
            continue


def _fields(component: Any, above: Path) -> Iterator[tuple[str, Any, Iterator[tuple[Any, Any]]]]:
    """Each leaf by its path, its value, and other values with the component that has them, the plainest first."""
    hints = field_types(type(component))
    idle = component.idle() if isinstance(component, Component) else ()
    for field in fields(component):
        value, path = getattr(component, field.name), (*above, field.name)
        if field.name in _NO_LEAVES or field.name in idle:
            continue
        if is_dataclass(value):
            for name, leaf, others in _fields(value, path):
                yield name, leaf, ((o, replace(component, **{field.name: inner})) for o, inner in others)
        else:
            others = (v for v in _others(value, hints[field.name], field.name) if v != value)
            yield ".".join(path), value, _each(component, field.name, others)


def _each(component: Any, name: str, others: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    for other in others:
        try:
            yield other, replace(component, **{name: other})
        except (CalotError, ValueError, TypeError):
            continue


def _others(value: Any, hint: Any, name: str) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, float):
        yield from (0.0, 1.0) if name.endswith("probability") else (value / 2, value * 2, value + 1.0, 0.5)
    elif isinstance(value, int):
        yield from (value * 2, value + 1, value // 2, value - 1)
    elif isinstance(value, str):
        yield from _options(hint)
    elif isinstance(value, tuple) and value and all(isinstance(v, (int, float)) for v in value):
        yield from (tuple(v / 2 for v in value), tuple(v * 2 for v in value), value[:-1], tuple(v + 1 for v in value))
    elif isinstance(value, tuple) and len(value) > 1:
        yield value[:-1]


def _options(hint: Any) -> Iterator[Any]:
    """The choices of a `Literal`, wherever it stands in a hint."""
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    yield from chain.from_iterable(map(_options, get_args(hint) if get_origin(hint) is not Literal else ()))
