"""The tracking services, one file each, named as `--log` names it; a file of its own is all that one more costs."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from typing import Protocol

from calot.errors import CalotError, nearest_name
from calot.tracking.followed import Followed


class Tracker(Protocol):
    """A run's log in a service, open."""

    def last_step(self) -> int:
        """The last step that the log has, 0 for none: a resumed run goes on after it."""

    def write(self, row: Mapping[str, float], *, step: int) -> None:
        """Add one epoch's numbers."""

    def close(self, *, complete: bool) -> None:
        """Send what is left, and say whether the run is complete or may be resumed."""


class Service(Protocol):
    """A tracking service: the package it needs (to be imported in `open` alone), and how its log of a run is opened."""

    @property
    def package(self) -> str:
        """The package's name to import."""

    def look(self, run: Followed) -> str:
        """How a person sees the log, and whether it leaves the machine; one line."""

    def open(self, run: Followed) -> Tracker:
        """A run's log, made or continued."""


def service_names() -> list[str]:
    """What `--log` takes."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find_service(name: str) -> Service:
    """A service by name. Raises CalotError naming the nearest."""
    if name not in service_names():
        raise CalotError(f"--log {name}: no such service.{nearest_name(name, among=service_names())}")
    service: Service = importlib.import_module(f"{__name__}.{name}").service
    return service


def services_named(text: str | None) -> tuple[str, ...]:
    """The services in `--log tensorboard,mlflow`.

    Raises CalotError for an unknown one, one named twice, and one whose package is missing, with what installs it.
    """
    names = [] if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        package = find_service(name).package
        if importlib.util.find_spec(package) is None:
            raise CalotError(f"--log {name} needs the package {package!r}: pip install 'calot[{name}]'")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise CalotError(f"--log {text}: {twice} is named twice")
    return tuple(names)
