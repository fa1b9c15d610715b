"""Calot: Critical View of Safety classifiers whose every printed result can be defended.

The Python API has the commands' names: `calot.load_predictions`, `calot.metrics`, `calot.compare`, `calot.train` and
`calot.predict` (`calot.api`). Nothing is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calot.api import compare as compare
    from calot.api import load_predictions as load_predictions
    from calot.api import metrics as metrics
    from calot.api import predict as predict
    from calot.api import train as train

__version__ = "0.1.0"

_API = ("compare", "load_predictions", "metrics", "predict", "train")


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(import_module("calot.api"), name)
    raise AttributeError(f"module 'calot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_API})


class CommandPackage(ModuleType):
    """A package of calot's with the name of a command: called, it is that command of the Python API."""

    def __call__(self, *given: Any, **settings: Any) -> Any:
        return getattr(import_module("calot.api"), self.__name__.rpartition(".")[2])(*given, **settings)
