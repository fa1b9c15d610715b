"""The formats that a run is exported to: each writes its files and is then read back to score clips.

A format is a class in this package; `calot export --format NAME` finds it by its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from calot.deploy.scorer import Exportable, PortableModel
from calot.errors import CalotError, first_line, nearest_name

#: What a written file is, for a program: clips as stored to raw logits.
Scores = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Format(ABC):
    """One way to write a model, and to read it back without the run."""

    name: ClassVar[str]
    #: Packages beside `calot[train]` that it needs, all in `calot[export]`.
    needs: ClassVar[tuple[str, ...]] = ()

    def unfit(self, run: Exportable) -> str | None:
        """Why a run cannot be written in this format, or None."""
        masking = run.experiment.masking
        if masking is not None and masking.in_encoder:
            return f"{type(masking).__name__} biases attention inside the encoder by masks found in a first pass"
        return None

    @abstractmethod
    def write(self, run: Exportable, folder: Path) -> dict[str, Any]:
        """Write the files; returns what to say of them beside their names."""

    @abstractmethod
    def scores(self, folder: Path) -> Scores:
        """The written files as a program would use them."""


def format_named(name: str) -> Format:
    """The format of that name. Raises CalotError for another one, and where its packages are missing."""
    import importlib.util

    known = {cls.name: cls for cls in formats()}
    if name not in known:
        raise CalotError(f"--format {name}: choose {', '.join(known)}.{nearest_name(name, among=known)}")
    if lacking := [p for p in known[name].needs if importlib.util.find_spec(p) is None]:
        raise CalotError(f"--format {name} needs the package {lacking[0]!r}: pip install 'calot[export]'")
    return known[name]()


def formats() -> tuple[type[Format], ...]:
    """Every format there is."""
    import calot.deploy.hub
    import calot.deploy.onnx_format  # noqa: F401  # they are found as subclasses

    return tuple(sorted(Format.__subclasses__(), key=lambda cls: cls.name))


def exported(run: Exportable, *, what: str) -> tuple[Any, Any]:
    """torch.export's program of a run's scorer, for any number of clips, and the example it was traced with.

    Raises CalotError naming what the tracing could not follow.
    """
    scorer, example = PortableModel(run.model), torch.from_numpy(run.frames(run.chosen(2)))
    if len(example) < 2:
        raise CalotError(f"{run.folder}: {what} is traced with two validation clips, and there is one")
    with torch.no_grad():
        scorer(example)  # tables that a first pass makes must be there: a trace would keep its own stand-ins
    dynamic = {"video": {0: torch.export.Dim("clips", min=1, max=4096)}}
    try:
        program = torch.export.export(scorer, (example,), dynamic_shapes=dynamic)
    except Exception as error:  # the tracer raises several unrelated families of errors
        raise CalotError(
            f"{run.folder}: cannot be written as {what}: torch.export does not follow its computation "
            f"({first_line(error)[:200]}). Use --format hf, or `calot predict` where calot is installed."
        ) from error
    return program, example


class ExportedProgram(Format):
    """torch.export's `.pt2`: one file that `torch.export.load` reads, without calot."""

    name = "pt2"

    def write(self, run: Exportable, folder: Path) -> dict[str, Any]:
        program, example = exported(run, what="pt2")
        torch.export.save(program, folder / "model.pt2")
        return {"input": f"uint8 (clips, {', '.join(map(str, example.shape[1:]))})"}

    def scores(self, folder: Path) -> Scores:
        program = torch.export.load(folder / "model.pt2").module()

        def run(video: NDArray[np.uint8]) -> NDArray[np.float32]:
            with torch.no_grad():
                return program(torch.from_numpy(video)).numpy()  # type: ignore[no-any-return]

        return run
