"""The study's experiments, one value per file; `resolve` turns one, or a user's own, into what a command asks for."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calot import pretrainings
from calot.config import sources
from calot.config.component import check, checked_together
from calot.config.json_form import from_json, to_json
from calot.config.overrides import Override, read_overrides, value_at, with_overrides
from calot.errors import CalotError, FieldError, nearest_name
from calot.experiment import FULL, Experiment, require_layers, scaled
from calot.identity import user_path


@dataclass(frozen=True)
class Found:
    """An experiment as its file has it, with the file's docstring and, for one of the user's own, its source."""

    experiment: Experiment
    header: str
    source: sources.Source | None = None


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """An experiment as a command asks for it: at its scale, with every change in it."""

    found: Found
    experiment: Experiment
    scale: str
    overrides: tuple[Override, ...]


def names() -> list[str]:
    """The shipped experiments, in the study's order."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def pretraining_names() -> list[str]:
    """The shipped pretrainings: experiments whose objective reads no labels."""
    return sorted(m.name for m in pkgutil.iter_modules(pretrainings.__path__))


def find(name: str) -> Found:
    """A shipped experiment by name, or the `experiment` of a user's `.py`. Raises CalotError naming the nearest."""
    if name.endswith(".py"):
        return _from_file(user_path(Path(name)))
    if name not in (shipped := [*names(), *pretraining_names()]):
        raise CalotError(
            f"no experiment {name!r}.{nearest_name(name, among=shipped)} "
            "A file of your own is given by its path, ending in .py."
        )
    return _shipped(name)


def resolve(name: str, *, overrides: Sequence[str] = (), scale: str = FULL) -> Resolved:
    """An experiment by name or path as a command asks for it; see `resolve_found`."""
    return resolve_found(find(name), overrides=overrides, scale=scale)


def resolve_found(found: Found, *, overrides: Sequence[str] = (), scale: str = FULL) -> Resolved:
    """An experiment at a scale with `key=value` changes, all applied together and checked to be what was typed.

    A scale maps components and layer numbers that were typed as it maps those in the experiment's file; a number typed
    by its own key is taken as typed. Raises CalotError for changes that do not fit together or cannot be read back.
    """
    package = None if found.source is None else found.source.package
    changes = read_overrides(found.experiment, overrides, package=package)
    sizes = {o.path[1]: o.value for o in changes if o.path[0] == "backbone" and len(o.path) == 2 and not o.scales}
    try:
        with checked_together():
            whole = with_overrides(found.experiment, [o for o in changes if o.scales])
            require_layers(whole)
            small = scaled(whole, scale, backbone_sizes=sizes)
            experiment = with_overrides(small, [o for o in changes if not o.scales])
        check(experiment)
    except CalotError as error:
        typed = " ".join(o.typed for o in changes if o.typed not in str(error))
        raise FieldError(f"{typed}: {error}" if typed else str(error)) from None
    for change in changes:
        if (scale == FULL or not change.scales) and value_at(experiment, change.path) != change.value:
            raise CalotError(f"{change.typed}: a bug in calot: it became {value_at(experiment, change.path)}")
    baseline_of(experiment, found, scale=scale)
    require_readable(experiment, source=found.source)
    return Resolved(found=found, experiment=experiment, scale=scale, overrides=changes)


def require_readable(experiment: Experiment, *, source: sources.Source | None) -> None:
    """Raises CalotError where a run could not be read back: it is refused before its first step, not after its last."""
    if from_json(to_json(experiment), Experiment, source=source) != experiment:
        other = [d.field for d in experiment.difference(from_json(to_json(experiment), Experiment, source=source))]
        raise CalotError(
            f"{experiment.name}: {', '.join(other) or 'a component'} does not survive being written down and "
            "read back. A component is defined by its fields, and two with equal fields are equal (a frozen dataclass)."
        )


def baseline_of(experiment: Experiment, found: Found, *, scale: str) -> Experiment | None:
    """The baseline that an experiment names: a shipped one, or that of the file of this name beside the user's own.

    Raises CalotError where there is none of this name.
    """
    name = experiment.baseline
    if name is None:
        return None
    if name in names() or name in pretraining_names():
        return scaled(_shipped(name).experiment, scale)
    module = None if found.source is None else sources.beside(found.source, name)
    baseline = getattr(module, "experiment", None)
    if not isinstance(baseline, Experiment) or baseline.name != name:
        where = "" if found.source is None else f", and no {name}.py beside {found.source.main} defines it"
        raise CalotError(f"baseline={name}: no such experiment{where}.{nearest_name(name, among=names())}")
    return scaled(baseline, scale)


def _shipped(name: str) -> Found:
    package = __name__ if name in names() else pretrainings.__name__
    module = importlib.import_module(f"{package}.{name}")
    return Found(module.experiment, (module.__doc__ or "").strip())


def _from_file(path: Path) -> Found:
    source = sources.load_file(path)
    module = sources.module_of(source)
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        raise CalotError(f"{path}: defines no `experiment = Experiment(...)` at its top level")
    return Found(experiment, (module.__doc__ or "").strip(), source)
