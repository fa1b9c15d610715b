"""What a shell completes: experiments, their keys, services; without torch, in a fraction of a second.

The keys are those of each resolved experiment, which needs torch: the first TAB after calot's code has changed starts a
process that writes them down for the next ones, and offers names alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Container
from pathlib import Path

import typer

_PACKAGE = Path(__file__).parents[1]
_SCALES = ("tiny", "full")


def experiment_words(ctx: typer.Context, args: list[str], incomplete: str) -> list[tuple[str, str]]:
    """Names of experiments, and once one was typed, its keys."""
    return _words("experiments", ctx, incomplete)


def pretraining_words(ctx: typer.Context, args: list[str], incomplete: str) -> list[tuple[str, str]]:
    """The same of pretrainings; keys are those of the default one until one is typed."""
    return _words("pretrainings", ctx, incomplete)


def scale_words(incomplete: str) -> list[str]:
    """The scales."""
    return [scale for scale in _SCALES if scale.startswith(incomplete)]


def service_words(incomplete: str) -> list[str]:
    """Tracking services after the last comma."""
    from calot.tracking.services import service_names

    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [before + comma + name for name in service_names() if name.startswith(last) and name not in taken]


def _words(folder: str, ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    names = _shipped(folder)
    typed = [word for value in ctx.params.values() for word in (value if isinstance(value, (list, tuple)) else [value])]
    chosen = next((str(word) for word in typed if str(word) in names), None)
    if chosen is None and folder == "pretrainings":
        chosen = next(iter(names))
    found = [(name, question) for name, question in names.items() if name.startswith(incomplete)]
    keys = {} if chosen is None else keys_of(chosen)
    return found + [(f"{key}=", f"now {value}") for key, value in keys.items() if key.startswith(incomplete)]


def _shipped(folder: str) -> dict[str, str]:
    """Names and questions, from the first lines of their files."""
    found = {}
    for path in sorted((_PACKAGE / folder).glob("[a-z]*.py")):
        with path.open(encoding="utf-8") as file:
            found[path.stem] = file.readline().strip().strip('"')
    return found


def keys_of(experiment: str) -> dict[str, str]:
    """The keys of a shipped experiment with their values; empty until they have been written down."""
    path = keys_file()
    try:
        kept: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
        return kept[experiment]
    except (OSError, ValueError, KeyError):
        with contextlib.suppress(OSError):  # nobody waits for it, and nothing depends on it
            subprocess.Popen(
                [sys.executable, "-P", "-m", "calot.cli.completing"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if "_COMPLETE" not in name},
            )
        return {}


def keys_file() -> Path:
    """Where this code's keys are kept."""
    from calot.state import state_folder

    files = sorted(_PACKAGE.rglob("*.py"))
    stamp = repr([(path.relative_to(_PACKAGE).as_posix(), path.stat().st_mtime_ns) for path in files])
    return state_folder() / "completion" / f"{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.json"


def write_keys() -> Path:
    """Write down the keys of every shipped experiment; those of older code are removed."""
    from calot.config.difference import flatten
    from calot.experiments import find, names, pretraining_names
    from calot.writing import write_json

    path = keys_file()
    found = {}
    for name in (*names(), *pretraining_names()):
        leaves = flatten(find(name).experiment)
        found[name] = {key: str(value)[:60] for key, value in leaves.items() if _typed(key, leaves)}
    write_json(path, found)
    for old in path.parent.glob("*.json"):
        if old != path:
            old.unlink(missing_ok=True)
    return path


def _typed(key: str, leaves: Container[str]) -> bool:
    """Whether a key is one that is changed on a command line: not the experiment's own name, nor a list's length (of
    a component, the class's name stands under the component's own key; of a list, nothing does)."""
    above, _, last = key.rpartition(".")
    return key not in ("name", "baseline") and "[" not in key and not (last == "length" and above not in leaves)


if __name__ == "__main__":
    write_keys()
