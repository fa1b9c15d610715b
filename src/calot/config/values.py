"""Frozen dataclasses as values: to JSON and back, difference, fingerprint, and `key=value` changes.

A component is written `{"_type": "calot.train.losses.FocalLoss", "gamma": 2.0}` and rebuilt from calot's own classes
only.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from calot.config.component import Component, field_types
from calot.config.holding import component_classes, held, takes_text
from calot.errors import CalotError, nearest_name

T = TypeVar("T")


@dataclass(frozen=True)
class Difference:
    """One field, by dotted path, that two values do not share; `None` also stands for an absent field."""

    field: str
    baseline: Any
    value: Any


def to_json(value: Any) -> Any:
    """Plain lists, dicts, numbers and strings; every dataclass carries its `_type`."""
    if is_dataclass(value) and not isinstance(value, type):
        cls = type(value)
        body = {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
        return {"_type": f"{cls.__module__}.{cls.__qualname__}", **body}
    if isinstance(value, (tuple, list)):
        return [to_json(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{value!r} has no JSON form: experiment fields hold numbers, strings, tuples and dataclasses")


def from_json(data: Any) -> Any:
    """Rebuild what `to_json` wrote. Raises CalotError for a class that is not one of calot's frozen dataclasses."""
    if isinstance(data, list):
        return tuple(from_json(v) for v in data)
    if not isinstance(data, dict):
        return data
    cls = _class_named(str(data.get("_type")))
    known = {f.name for f in fields(cls)}
    unknown = set(data) - known - {"_type"}
    if unknown:
        raise CalotError(
            f"{cls.__name__} has no field {sorted(unknown)}: the file was written by another version of calot"
        )
    body = {k: from_json(v) for k, v in data.items() if k != "_type"}
    try:
        return cls(**body)
    except CalotError:
        raise
    except (TypeError, ValueError) as error:
        raise CalotError(f"{cls.__name__}: {error}") from None


def _class_named(path: str) -> Any:
    module, _, name = path.rpartition(".")
    if module.split(".")[0] != "calot":
        raise CalotError(f"_type={path!r}: only calot's own classes are rebuilt from a file")
    try:
        cls: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise CalotError(f"_type={path!r}: this version of calot has no such class") from None
    if not (isinstance(cls, type) and issubclass(cls, Component) and "__dataclass_fields__" in vars(cls)):
        raise CalotError(f"_type={path!r} is not one of calot's frozen dataclasses")
    return cls


def to_json_difference(item: Difference) -> dict[str, Any]:
    """One difference as plain JSON."""
    return {"field": item.field, "baseline": to_json(item.baseline), "value": to_json(item.value)}


def fingerprint(value: Any) -> str:
    """SHA-256 of the value's canonical JSON."""
    text = json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def flatten(value: Any, *, prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted path; a dataclass adds its class name under the path itself."""
    if is_dataclass(value) and not isinstance(value, type):
        leaves: dict[str, Any] = {prefix: type(value).__name__} if prefix else {}
        for f in fields(value):
            leaves |= flatten(getattr(value, f.name), prefix=f"{prefix}.{f.name}".lstrip("."))
        return leaves
    if isinstance(value, (tuple, list)) and any(is_dataclass(v) for v in value):
        leaves = {f"{prefix}.length": len(value)}
        for i, v in enumerate(value):
            leaves |= flatten(v, prefix=f"{prefix}.{i}")
        return leaves
    return {prefix: value}


def difference(baseline: Any, value: Any) -> list[Difference]:
    """Every leaf that differs, in the value's order."""
    old, new = flatten(baseline), flatten(value)
    keys = list(new) + [k for k in old if k not in new]
    return [Difference(k, old.get(k), new.get(k)) for k in keys if old.get(k) != new.get(k) or (k in old) != (k in new)]


def apply_overrides(value: T, overrides: Sequence[str]) -> T:
    """Apply `key=value` texts in order, such as `train.lr=1e-4`, `loss=FocalLoss(gamma=1)`, `protocol=all-frames`.

    Raises CalotError for an unknown key (naming the nearest), a value of the wrong type, or a text without `=`.
    """
    for text in overrides:
        key, sign, raw = text.partition("=")
        if not sign or not key:
            raise CalotError(f"{text!r} is not key=value")
        value = _set(value, path=key.split("."), raw=raw.strip(), whole=key)
    return value


def _set(value: Any, *, path: list[str], raw: str, whole: str, hint: Any = Any) -> Any:
    if isinstance(value, tuple):
        return _set_item(value, path=path, raw=raw, whole=whole, hint=hint)
    if not is_dataclass(value):
        raise CalotError(f"{whole}: {path[0]!r} is inside a plain value, {value!r}")
    names = [f.name for f in fields(value)]
    if path[0] not in names:
        raise CalotError(
            f"unknown key {whole!r}: {type(value).__name__} has no field {path[0]!r}."
            f"{nearest_name(path[0], among=names)}"
        )
    current = getattr(value, path[0])
    hint = field_types(type(value))[path[0]]
    new = _changed(current, path=path[1:], raw=raw, whole=whole, hint=hint)
    try:
        return replace(value, **{path[0]: new})  # type: ignore[type-var]
    except CalotError as error:
        raise CalotError(f"{whole}={raw}: {error}") from None
    except (TypeError, ValueError) as error:
        raise CalotError(f"{whole}={raw}: {error}") from None


def _set_item(value: tuple[Any, ...], *, path: list[str], raw: str, whole: str, hint: Any) -> tuple[Any, ...]:
    if path[0] not in map(str, range(len(value))):
        raise CalotError(f"unknown key {whole!r}: {path[0]!r} is no place in a list of {len(value)}")
    i = int(path[0])
    options = [h for h in (hint, *typing.get_args(hint)) if typing.get_origin(h) is tuple]
    inner = typing.get_args(options[0])[0] if options else Any
    new = _changed(value[i], path=path[1:], raw=raw, whole=whole, hint=inner)
    return (*value[:i], new, *value[i + 1 :])


def _changed(value: Any, *, path: list[str], raw: str, whole: str, hint: Any) -> Any:
    if path:
        return _set(value, path=path, raw=raw, whole=whole, hint=hint)
    return _parse(raw, hint=hint, key=whole)


def _parse(raw: str, *, hint: Any, key: str) -> Any:
    """Read a literal, a component expression or a component's name, and hold it against the field's type."""
    components = {_plain(c.__name__): c for c in component_classes(hint)}
    text = takes_text(hint)
    if raw != "None" and text:
        value: Any = raw.strip("'\"")
    elif _plain(raw) in components:
        value = _build(components[_plain(raw)], {}, key=key)
    else:
        try:
            value = _evaluate(ast.parse(raw, mode="eval").body, key=key, components=components)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # no literal, or one that Python will not read
            value = raw
    return held(value, hint, where=key)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").removesuffix("()")


def _evaluate(node: ast.expr, *, key: str, components: Mapping[str, type]) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        cls = components.get(_plain(node.func.id))
        if cls is None:
            names = [c.__name__ for c in components.values()]
            raise CalotError(f"{key}: no component {node.func.id!r}.{nearest_name(node.func.id, among=names)}")
        hints = field_types(cls)
        arguments = {}
        for k in node.keywords:
            inner = {_plain(c.__name__): c for c in component_classes(hints.get(str(k.arg), Any))}
            arguments[str(k.arg)] = _evaluate(k.value, key=key, components=inner)
        return _build(cls, arguments, key=key)
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_evaluate(v, key=key, components=components) for v in node.elts)
    if isinstance(node, ast.Name):
        cls = components.get(_plain(node.id))
        return _build(cls, {}, key=key) if cls else node.id
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _build(cls: type, arguments: dict[str, Any], *, key: str) -> Any:
    try:
        return cls(**arguments)
    except CalotError as error:
        raise CalotError(f"{key}: {error}") from None
    except (TypeError, ValueError) as error:
        raise CalotError(f"{key}: {cls.__name__}: {error}") from None
