"""beartype for everything but the making of components, whose fields `calot.config.component` itself holds."""

import functools
from typing import Any

from beartype import beartype

from calot.config.component import Component


def checked(function: Any) -> Any:
    """The function with its arguments checked."""
    strict = beartype(function)
    if function.__name__ != "__init__":
        return strict

    @functools.wraps(function)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (function if isinstance(self, Component) else strict)(self, *args, **kwargs)

    return __init__
