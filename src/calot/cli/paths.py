"""`~` on the command line: a shell expands a bare `~/x`, but neither `--out=~/x` nor `compute.cache=~/x`."""

from __future__ import annotations

from pathlib import Path

from calot.identity import user_path


def at_home(words: list[str]) -> list[str]:
    """The words of a command with each `~` that begins a path expanded to the home folder.

    Raises CalotError if there is no such home: a folder named `~` is never created.
    """
    return [_expanded(word) for word in words]


def _expanded(word: str) -> str:
    name, equals, value = word.partition("=")
    if equals and value.startswith("~") and not name.startswith("~"):
        return f"{name}={user_path(Path(value))}"
    return str(user_path(Path(word))) if word.startswith("~") else word
