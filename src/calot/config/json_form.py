"""Components to JSON and back: `{"_type": "calot.train.losses.FocalLoss", "gamma": 2.0}`.

When reading back, only what the field admits is rebuilt: calot's own components by name, wherever they have moved, and
those of the experiment's own file from the given source. A user's component is `"mine.py:MyLoss"`.
"""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import fields, is_dataclass
from typing import Any

from calot.config.component import field_types
from calot.config.fields import Since, marks
from calot.config.holding import component_classes, element, held, shown
from calot.config.sources import Source, is_calots, tag_of
from calot.errors import CalotError, nearest_name

#: Where calot keeps components; no other module is imported because a file names it.
_ROOMS = ("calot.criteria", "calot.data.", "calot.models.", "calot.train.", "calot.experiment", "calot.provenance.")


def to_json(value: Any, *, where: str = "") -> Any:
    """Plain lists, dicts, numbers and strings; every component carries its `_type`.

    Raises CalotError naming the field of anything that could not be rebuilt.
    """
    if is_dataclass(value) and not isinstance(value, type):
        body = {f.name: to_json(getattr(value, f.name), where=f"{where}.{f.name}".lstrip(".")) for f in fields(value)}
        return {"_type": tag_of(type(value), where=where), **body}
    if isinstance(value, (tuple, list)):
        return [to_json(v, where=f"{where}.{i}".lstrip(".")) for i, v in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CalotError(
        f"{where}={shown(value)} has no JSON form, so the run could not be read back: fields hold numbers, texts, "
        "lists and frozen components"
    )


def from_json(data: Any, hint: Any, *, source: Source | None = None) -> Any:
    """Rebuild what `to_json` wrote as what `hint` admits, with the user's own components from `source`.

    Raises CalotError for a component that `hint` does not admit, and for fields that are unknown or hold a value
    that they do not admit.
    """
    name = getattr(hint, "__name__", "value")
    return held(_rebuilt(data, hint, source=source, where=name), hint, where=name)


def _rebuilt(data: Any, hint: Any, *, source: Source | None, where: str) -> Any:
    if isinstance(data, list):
        inner = [element(hint, i) for i in range(len(data))]
        if None in inner:
            raise CalotError(f"{where}: is a list, but no list belongs here")
        return tuple(
            _rebuilt(v, h, source=source, where=f"{where}.{i}")
            for i, (v, h) in enumerate(zip(data, inner, strict=True))
        )
    if not isinstance(data, dict):
        return data
    cls: Any = _class_named(data.get("_type"), hint, source=source, where=where)
    known = field_types(cls)
    body = {k: v for k, v in data.items() if k != "_type"}
    if unknown := sorted(body.keys() - known.keys()):
        raise CalotError(f"{cls.__name__} has no field {unknown}: the file was written by another version of calot")
    before = {name: mark.before for name, h in known.items() if name not in body for mark in marks(h, Since)}
    rebuilt = {}
    for k, v in body.items():
        where = f"{cls.__name__}.{k}"
        rebuilt[k] = held(_rebuilt(v, known[k], source=source, where=where), known[k], where=where)
    if lacking := [f.name for f in fields(cls) if f.init and f.name not in rebuilt | before]:
        raise CalotError(f"{cls.__name__} lacks {lacking}: the file is damaged, or written by another version of calot")
    try:
        return cls(**before, **rebuilt)
    except CalotError:
        raise
    except (TypeError, ValueError) as error:
        raise CalotError(f"{cls.__name__}: {error}") from None


def _class_named(tag: Any, hint: Any, *, source: Source | None, where: str) -> type:
    if not isinstance(tag, str):
        raise CalotError(f"{where}: _type={shown(tag)}: expected a component's name")
    if ".py:" in tag:
        if source is None:
            raise CalotError(f"{where}: _type={tag!r} is a user-defined component, and its file is missing")
        return source.component(tag)
    module, _, name = tag.rpartition(".")
    if module.startswith(_ROOMS):
        with contextlib.suppress(ImportError):  # moved since: then another module has imported it
            importlib.import_module(module)
    admitted = [c for c in component_classes(hint) if is_calots(c)]
    found = [c for c in admitted if c.__name__ == name]
    if not found:
        names = [c.__name__ for c in admitted]
        raise CalotError(
            f"{where}: _type={tag!r}: only calot's own components and those in the run's own file are rebuilt, and "
            f"this version has no component of that name here.{nearest_name(name, among=names)}"
        )
    return found[0]
