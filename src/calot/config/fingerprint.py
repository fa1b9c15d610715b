"""A value's fingerprint: equal for equal treatments, today's and those of older versions of calot alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from dataclasses import fields, is_dataclass
from typing import Any

from calot.config.component import field_types
from calot.config.fields import Since, marks
from calot.config.sources import fingerprint_tag

#: Fields of an experiment that change how it is called, held against something or computed, not what is tried.
NO_TREATMENT = ("name", "baseline", "compute")


def fingerprint(value: Any, *, without: Container[str] = ()) -> str:
    """SHA-256 of a value's canonical JSON, without some of its own fields.

    A component stands under its class's name, wherever its module is; one of the user's own under its name and the
    digest of its code. A field marked `Since` is left out while it holds what older versions did without it.
    """
    canonical = {k: v for k, v in _canonical(value).items() if k not in without}
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        hints = field_types(type(value))
        held = {f.name: getattr(value, f.name) for f in fields(value)}
        kept = {k: v for k, v in held.items() if all(v != mark.before for mark in marks(hints[k], Since))}
        return {"_type": fingerprint_tag(type(value)), **{k: _canonical(v) for k, v in kept.items()}}
    if isinstance(value, (tuple, list)):
        return [_canonical(v) for v in value]
    return value
