"""`calot train --sweep key=value,value`: every combination of settings, and the choice among them on validation."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from calot.errors import CalotError
from calot.sweeping.space import split_values

if TYPE_CHECKING:
    from calot.run.request import Request
    from calot.statistics.predictions import Predictions
    from calot.statistics.sweep import SweepChoice

_NAME_LENGTH = 60


def combinations(sweeps: Sequence[str]) -> list[tuple[str, ...]]:
    """The changes of each setting: all combinations of the values of each `key=value,value`; one empty one for none.

    Commas within brackets or quotes part no values. Raises CalotError for a text without values, and a key or a value
    that is given twice.
    """
    axes = []
    for text in sweeps:
        key, sign, values = text.partition("=")
        parts = split_values(values)
        if not sign or not key.strip() or not all(parts):
            raise CalotError(f"--sweep {text}: expected key=value,value,..., such as train.lr=1e-5,1e-4")
        if len(set(parts)) < len(parts):
            raise CalotError(f"--sweep {text}: a value is given twice")
        axes.append([f"{key.strip()}={value}" for value in parts])
    keys = [axis[0].partition("=")[0] for axis in axes]
    if len(set(keys)) < len(keys):
        raise CalotError(
            f"--sweep: {next(k for k in keys if keys.count(k) > 1)} is given twice; put its values together"
        )
    return list(itertools.product(*axes))


def setting_name(changes: Sequence[str]) -> str:
    """A folder's name for a setting: its changes as far as every system allows them in names."""
    plain = re.sub(r"[^A-Za-z0-9.=+-]+", "_", "__".join(changes)).strip("_.=+-")
    if plain == "__".join(changes) == plain.lower() and len(plain) <= _NAME_LENGTH:
        return plain
    digest = hashlib.sha256(repr(tuple(changes)).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain[:_NAME_LENGTH].rstrip('_.') or 'setting'}-{digest}"


def say_choice(asked: Sequence[Request]) -> list[Path]:
    """Choose a setting of each experiment on val, print the table, keep it as sweep.json; returns the chosen runs."""
    chosen: list[Path] = []
    for home, found in choices(asked).items():
        print("\n".join([f"\n{home.name}, val mAP by setting:", *found.lines()]))
        chosen += [r.folder for r in asked if r.folder.parent == home / found.chosen]
    return chosen


def choices(asked: Sequence[Request]) -> dict[Path, SweepChoice]:
    """By experiment's folder, the choice among its settings on val, written there as sweep.json."""
    from calot.statistics.predictions import load_predictions
    from calot.statistics.sweep import choice_among
    from calot.writing import write_json

    made = {}
    for home in dict.fromkeys(request.folder.parents[1] for request in asked):
        tables: dict[str, list[Predictions]] = {}
        for request in asked:
            if request.folder.parents[1] == home:
                table = load_predictions(request.folder / "predictions" / "val.parquet").with_labels()
                tables.setdefault(request.folder.parent.name, []).append(table)
        made[home] = choice_among(tables)
        write_json(home / "sweep.json", made[home].to_dict())
    return made
