"""The study's experiments, one value a file; `find` resolves a name or a path to a `.py` of the user's own."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from calot.errors import CalotError, nearest_name
from calot.experiment import Experiment


@dataclass(frozen=True)
class Found:
    """An experiment and where it came from: its file's docstring, and for a user's own file its path and SHA-256."""

    experiment: Experiment
    header: str
    source: Path | None = None
    sha256: str | None = None


def names() -> list[str]:
    """The shipped experiments, in the study's order."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def find(name: str) -> Found:
    """A shipped experiment by name, or the `experiment` of a user's `.py`. Raises CalotError naming the nearest."""
    if name.endswith(".py"):
        return _from_file(Path(name))
    if name not in names():
        raise CalotError(
            f"no experiment {name!r}.{nearest_name(name, among=names())} "
            "A file of your own is given by its path, ending in .py."
        )
    module = importlib.import_module(f"{__name__}.{name}")
    return Found(module.experiment, (module.__doc__ or "").strip())


def _from_file(path: Path) -> Found:
    if not path.is_file():
        raise CalotError(f"{path}: no such file")
    module = ModuleType(f"calot_user_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # so that dataclasses defined in it can resolve their annotations
    source = path.read_bytes()
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        raise CalotError(f"{path}: {type(error).__name__}: {error}") from error
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        raise CalotError(f"{path}: defines no `experiment = Experiment(...)` at its top level")
    return Found(experiment, (module.__doc__ or "").strip(), path, hashlib.sha256(source).hexdigest())
