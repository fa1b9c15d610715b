"""A component's settings as a person writes them in a paper: `LoRA (rank 16, alpha 32, targets q, v)`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: Where a capital begins a new word: `AttentionSupervision`; `LoRA` and `MixUp` stay.
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z][a-z]{2})")


def setting_in_words(value: Any) -> str:
    """A component of experiment.json: its kind, then its fields; what is off or none is left out."""
    if isinstance(value, Mapping):
        held = {name: part for name, part in value.items() if name != "_type" and not _off(part)}
        fields = ", ".join(_field(name, part) for name, part in held.items())
        kind = _WORD.sub(" ", str(value.get("_type", "")).rpartition(".")[2])
        kind = kind if any(letter.isupper() for letter in kind[1:]) and " " not in kind else kind.lower()
        return f"{kind} ({fields})" if kind and fields else kind or fields
    if isinstance(value, list | tuple):
        return ", ".join(setting_in_words(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _field(name: str, value: Any) -> str:
    said = name.replace("_", " ")
    return said if value is True else f"{said} {setting_in_words(value)}"


def _off(value: Any) -> bool:
    return value is None or value is False or value == [] or value == "none"


def stages_in_words(experiment: Mapping[str, Any]) -> str:
    """Every stage of a resolved experiment, in order; empty where nothing is known of the first."""
    stages = [experiment.get("train"), *(experiment.get("then") or [])]
    return "; then ".join(_stage(stage) for stage in stages if isinstance(stage, Mapping))


def _stage(stage: Mapping[str, Any]) -> str:
    numbers = ("epochs", "lr", "weight_decay", "warmup", "batch", "patience")
    said = [_field(name, stage[name]) for name in numbers if isinstance(stage.get(name), int | float)]
    return ", ".join([setting_in_words(stage.get("adaptation")), *said])


def grouped(said: Mapping[str, str]) -> str:
    """Of each experiment a text: experiments with the same one are named together."""
    names: dict[str, list[str]] = {}
    for name, text in said.items():
        names.setdefault(text, []).append(name)
    return "; ".join(f"{', '.join(who)}: {text}" for text, who in names.items())
