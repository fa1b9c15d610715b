"""A run's folder taken for one process: made, resumed, or started again without losing its content too early."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from calot.errors import CalotError
from calot.experiments import require_readable
from calot.locking import locked
from calot.provenance.run_files import EnvironmentFile, read_file
from calot.run import experiment_file, own_code
from calot.run.environment import code_hash
from calot.run.experiment_file import AGAIN, read_experiment
from calot.writing import clear_disk_errors

if TYPE_CHECKING:
    from calot.run.request import Request

LOCK, LOG, IMPORT = "run.lock", "train.log", "import.json"
#: Written before the first checkpoint; a resumed run is checked against it.
_DESCRIBED = (experiment_file.NAME, "data.json", "environment.json")
#: Where a run that is to be started again waits until the new one is described.
_BEFORE = ".before"
_LONGER = (
    " Other epochs mean another learning rate at every step, so a longer run cannot continue a shorter one: train it "
    "from its first step."
)


@contextmanager
def claimed(request: Request) -> Iterator[None]:
    """Make the run's folder, or take an old one as asked, and keep other processes out of it.

    A refused request leaves no folder of its own, and keeps every file of an old run. Raises CalotError when the
    folder exists and neither was asked for, when a resumed run would not be the same run, and when another process
    works there.
    """
    folder = request.folder
    require_readable(request.experiment, source=request.found.source)
    _require_free(request)
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    with clear_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / LOCK, refusal=f"{folder}: another process works on this run; wait for it, or stop it"):
            settle(folder)
            _require_free(request)  # again: another process may have had it until the lock was ours
            if request.overwrite:
                _set_aside(folder)
            elif request.resume:
                require_same(request)
            try:
                yield
            finally:
                settle(folder)
    except CalotError:
        _leave_nothing(made)
        raise


def _leave_nothing(made: list[Path]) -> None:
    """Remove the folders that were made for a failed request, if they are empty."""
    for folder in made:
        if folder.is_dir() and {p.name for p in folder.iterdir()} <= {LOCK, LOG}:
            shutil.rmtree(folder, ignore_errors=True)


def _require_free(request: Request) -> None:
    folder = request.folder
    if request.imported is None and (folder / IMPORT).exists():
        raise CalotError(f"{folder}: an imported run, which was not trained here and cannot be: take another --out")
    if not _contents(folder) or request.resume:
        return
    if not request.overwrite:
        resume = "" if request.imported else "--resume continues it, "
        raise CalotError(f"{folder} exists: {resume}--overwrite starts it again")
    if not (folder / LOCK).exists() and not (folder / experiment_file.NAME).exists():
        raise CalotError(
            f"{folder} holds something that is not a run; --overwrite would delete it, so take another --out"
        )


def _contents(folder: Path) -> list[Path]:
    """What a run left. A refused run leaves only its lock and log, which are nothing to lose."""
    names = {p.name for p in folder.iterdir()} - {_BEFORE} if folder.exists() else set()
    return [] if names <= {LOCK, LOG} else [folder / name for name in sorted(names - {LOCK})]


def _set_aside(folder: Path) -> None:
    """Move an old run aside, unharmed, until the new one is described."""
    contents = _contents(folder)
    if contents:
        (folder / _BEFORE).mkdir(exist_ok=True)
        for path in contents:
            path.rename(folder / _BEFORE / path.name)


def settle(folder: Path) -> None:
    """Once a new run is described, delete the one that it replaces; where none is, put the old one back."""
    before = folder / _BEFORE
    if not before.is_dir():
        return
    if not (folder / experiment_file.NAME).exists():
        for path in before.iterdir():
            _remove(folder / path.name)
            path.rename(folder / path.name)
    shutil.rmtree(before)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def require_same(request: Request) -> None:
    """Raises CalotError where the run in the folder is another one than asked for, or was trained by other code."""
    folder = request.folder
    lacks = [name for name in _DESCRIBED if not (folder / name).exists()]
    if lacks and (folder / "checkpoints").exists():
        raise CalotError(
            f"{folder}: {lacks[0]} is missing, so its checkpoints cannot be identified. Put it back, or use "
            f"--overwrite or another --out."
        )
    if not (folder / experiment_file.NAME).exists():
        return  # killed before anything was described: nothing to continue, nothing to contradict
    if request.found.source is not None:
        own_code.remember(request.found.source.digest)  # its path was typed
    experiment, seed = read_experiment(folder)
    changes = [f"{d.field}: {d.baseline} -> {d.value}" for d in request.experiment.difference(experiment)]
    if seed != request.seed:
        changes.append(f"seed: {seed} -> {request.seed}")
    if not changes and experiment.fingerprint() != request.experiment.fingerprint():
        changes.append(experiment_file.code_that_changed(folder, request) or "its fingerprint")
    if (folder / "environment.json").exists() and _code(folder) != code_hash():
        changes.append("calot's own code")
    if changes:
        listed = "; ".join(changes)
        longer = _LONGER if any(c.split(":")[0].endswith(".epochs") for c in changes) else ""
        raise CalotError(f"{folder}: not the same run any more ({listed}).{longer} Use --overwrite, or another --out.")


def _code(folder: Path) -> object:
    return read_file(folder / "environment.json", EnvironmentFile, remedy=AGAIN).get("code")
