"""What is typed after `key=`, read as a literal or a component: `1e-4`, `[q,v]`, `FocalLoss(gamma=1)`.

Parsed, never run: anything but a number, a text, a list or a component with its settings by name is refused, so that
nothing that was typed is dropped or misread.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Sequence
from typing import Any

from calot.config.component import field_types
from calot.config.holding import component_classes, element, held, in_words, shown, takes_text
from calot.config.sources import is_calots, source_of
from calot.errors import CalotError, FieldError, nearest_name


def read_expression(raw: str, hint: Any, *, key: str, package: str | None = None) -> Any:
    """The value of a text for a field of type `hint`, with the user's own components from `package`.

    Raises CalotError naming the key, the text and what is admitted.
    """
    where = f"{key}={shown(raw)[1:-1]}"
    if takes_text(hint) and raw != "None":
        return held(_unquoted(raw), hint, where=key)
    named = _components(hint, package=package).get(_plain(raw))
    if named is not None:
        return _made(_Reading(where, package), named, {})
    try:
        body = ast.parse(raw, mode="eval").body
        comments = [t for t in tokenize.generate_tokens(io.StringIO(raw).readline) if t.type == tokenize.COMMENT]
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError) as error:
        if component_classes_of(hint) and _plain(raw).isalnum():
            raise CalotError(f"{where}: {_no_such(raw, hint, package=package)}") from None
        reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise CalotError(f"{where}: cannot be read ({reason}); expected {in_words(hint)}") from None
    if comments:
        raise CalotError(f"{where}: {comments[0].string!r} would be dropped; leave it out")
    try:
        return held(_Reading(where, package).value(body, hint), hint, where=key)
    except RecursionError:
        raise CalotError(f"{where}: nested too deeply; expected {in_words(hint)}") from None


class _Reading:
    """One text being read."""

    def __init__(self, where: str, package: str | None) -> None:
        self.where, self.package = where, package

    def value(self, node: ast.expr, hint: Any) -> Any:
        match node:
            case ast.Call():
                return self._component(node, hint)
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                return self._list(elements, hint)
            case ast.Name(id=name):
                cls = _components(hint, package=self.package).get(_plain(name))
                return name if cls is None else _made(self, cls, {})
            case ast.Constant(value=bool() | int() | float() | str() | None):
                return node.value
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=int() | float() as number)):
                if not isinstance(number, bool):
                    return -number if isinstance(node.op, ast.USub) else number
        raise self.refusal(f"{_source(node)} is not a setting; expected {in_words(hint)}")

    def _list(self, elements: Sequence[ast.expr], hint: Any) -> tuple[Any, ...]:
        hints = [element(hint, i) for i in range(len(elements))]
        if None in hints:
            raise self.refusal(f"a list of {len(elements)} does not belong here; expected {in_words(hint)}")
        return tuple(self.value(v, h) for v, h in zip(elements, hints, strict=True))

    def _component(self, node: ast.Call, hint: Any) -> Any:
        name = _source(node.func)
        cls = _components(hint, package=self.package).get(_plain(name)) if isinstance(node.func, ast.Name) else None
        if cls is None:
            raise self.refusal(_no_such(name, hint, package=self.package))
        known = field_types(cls)
        if node.args or any(k.arg is None for k in node.keywords):
            own_first = [*(k for k in known if k in vars(cls)["__annotations__"]), *known]
            by_name = (
                ", ".join(f"{k}={_source(v)}" for k, v in zip(own_first, node.args, strict=False)) or "field=value"
            )
            raise self.refusal(f"each setting of {cls.__name__} is given by its name: {cls.__name__}({by_name})")
        arguments: dict[str, Any] = {}
        for keyword in node.keywords:
            field = str(keyword.arg)
            if field in arguments:
                raise self.refusal(f"{cls.__name__}.{field} is given twice")
            if field not in known:
                raise self.refusal(f"{cls.__name__} has no field {field!r}.{nearest_name(field, among=known)}")
            given = self.value(keyword.value, known[field])
            arguments[field] = held(given, known[field], where=f"{self.where}: {cls.__name__}.{field}")
        return _made(self, cls, arguments)

    def refusal(self, message: str) -> CalotError:
        return CalotError(f"{self.where}: {message}")


def _made(reading: _Reading, cls: Any, arguments: dict[str, Any]) -> Any:
    try:
        return cls(**arguments)
    except FieldError as error:
        raise FieldError(f"{reading.where}: {error}") from None
    except (CalotError, TypeError, ValueError) as error:
        raise reading.refusal(f"{cls.__name__}: {error}") from None


def component_classes_of(hint: Any) -> list[type]:
    """Calot's own components that a field admits."""
    return [c for c in component_classes(hint) if is_calots(c)]


def _components(hint: Any, *, package: str | None) -> dict[str, type]:
    """The components allowed here, by plain name: calot's, and those of the experiment's own source."""
    found: dict[str, type] = {}
    for cls in component_classes(hint):
        source = source_of(cls)
        if not is_calots(cls) and (source is None or source.package != package):
            continue
        if found.setdefault(_plain(cls.__name__), cls) is not cls:
            raise CalotError(f"two components are called {cls.__name__}, calot's and yours: give yours another name")
    return found


def _no_such(name: str, hint: Any, *, package: str | None) -> str:
    names = [c.__name__ for c in _components(hint, package=package).values()]
    if not names:
        return f"{name} is not a setting; expected {in_words(hint)}"
    return f"no component {name!r} belongs here.{nearest_name(name, among=names)}"


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").removesuffix("()")


def _unquoted(raw: str) -> str:
    """A text as it is typed; quotes around all of it are left out."""
    quoted = len(raw) > 1 and raw[0] == raw[-1] and raw[0] in "'\""
    return raw[1:-1] if quoted and raw[0] not in raw[1:-1] else raw


def _source(node: ast.AST) -> str:
    try:
        return shown(ast.unparse(node))[1:-1]
    except RecursionError:
        return "this"
