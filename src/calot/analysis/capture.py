"""Read a model's internals by tap point: the outputs of named modules, from the real model, during real passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from calot.errors import CalotError, nearest_name


@contextmanager
def capture(model: nn.Module, *, points: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Collect what the modules of these names give, in order of their calls: one list per name, emptied by the caller.

    Raises CalotError for a name that the model does not have, naming the nearest one.
    """
    modules = dict(model.named_modules())
    if unknown := [name for name in points if name not in modules]:
        raise CalotError(f"tap point {unknown[0]!r} is not a module of it.{nearest_name(unknown[0], among=modules)}")
    seen: dict[str, list[Tensor]] = {name: [] for name in points}

    def keep(name: str, _module: nn.Module, _given: Any, output: Tensor) -> None:
        seen[name].append(output)

    with ExitStack() as handles:
        for name in points:
            handles.callback(modules[name].register_forward_hook(partial(keep, name)).remove)
        yield seen
