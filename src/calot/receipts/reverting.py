"""An experiment's declared changes from its baseline, and the experiment with one of them put back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from calot.config.fingerprint import NO_TREATMENT
from calot.config.named import by_name
from calot.errors import CalotError
from calot.experiment import Apart, Experiment

Path = tuple[str, ...]


def changes(experiment: Experiment, baseline: Experiment) -> list[Path]:
    """Every field that differs, as deep as both sides hold the same kind of component."""
    return [p for p in _differing(experiment, baseline, ()) if p[0] not in NO_TREATMENT]


def _differing(a: Any, b: Any, path: Path) -> Iterator[Path]:
    mine, theirs = by_name(a), by_name(b)
    if is_dataclass(a) and type(a) is type(b):
        for f in fields(a):
            yield from _differing(getattr(a, f.name), getattr(b, f.name), (*path, f.name))
    elif mine is not None and theirs is not None and _in_one_order(mine, theirs):
        for name in dict.fromkeys([*mine, *theirs]):
            yield from _differing(mine.get(name), theirs.get(name), (*path, name))
    elif a != b:
        yield path


def _in_one_order(mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return [name for name in mine if name in theirs] == [name for name in theirs if name in mine]


def at(value: Any, path: Path) -> Any:
    """What stands in a field; None for an item that a list of named ones lacks."""
    for name in path:
        items = by_name(value)
        value = getattr(value, name) if items is None else items.get(name)
    return value


def with_fields(experiment: Experiment, values: dict[Path, Any]) -> Experiment:
    """Several fields set at once, so that those that only make sense together are never apart."""
    return _set(experiment, values)  # type: ignore[no-any-return]


def _set(value: Any, values: dict[Path, Any]) -> Any:
    inner: dict[str, dict[Path, Any]] = {}
    for path, new in values.items():
        inner.setdefault(path[0], {})[path[1:]] = new
    items = by_name(value)
    if items is not None:
        items |= {name: below[()] if () in below else _set(items[name], below) for name, below in inner.items()}
        return tuple(item for item in items.values() if item is not None)
    changed = {name: below[()] if () in below else _set(getattr(value, name), below) for name, below in inner.items()}
    return replace(value, **changed)


def reverted(
    experiment: Experiment, baseline: Experiment, path: Path, *, among: Sequence[Path]
) -> tuple[Experiment, tuple[Path, ...]]:
    """The experiment with one declared field put back, and which fields that took.

    Where it cannot stand alone, those go back with it that the broken rule (`experiment.TOGETHER`) names beside it, or
    the rest of its own component. Raises CalotError where no rule says what goes with it.
    """
    together = [path]
    while True:
        try:
            return with_fields(experiment, {p: at(baseline, p) for p in together}), tuple(together)
        except Apart as error:
            more = [p for p in among if p not in together and any(_overlap(p, f.split(".")) for f in error.fields)]
            broken: Exception = error
        except (CalotError, ValueError, TypeError) as error:
            more = [p for p in among if p not in together and p[:-1] == path[:-1]]
            broken = error
        if not more:
            raise CalotError(f"{'.'.join(path)} cannot be put back alone, and no rule says with what ({broken})")
        together += more


def _overlap(path: Path, field: Sequence[str]) -> bool:
    """Whether one of the two is the other or lies inside it."""
    shorter = min(len(path), len(field))
    return list(path[:shorter]) == list(field[:shorter])
