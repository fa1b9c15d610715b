"""The packages that only a sweep needs, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from calot.errors import CalotError


def required(name: str) -> Any:
    """The package. Raises CalotError with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != name:
            raise
        raise CalotError(f"this needs the package {name!r}: pip install 'calot[sweep]'") from None
