"""The archive's folder and the map over it: what it belongs to, what is finished, what is left, what failed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calot.archive.engines import Engine
from calot.archive.operations import Attempt, AttemptState, DamagedResult, Operation, OperationPlace, Scorer, ScoringJob
from calot.errors import CalotError
from calot.locking import locked
from calot.progress import Ui
from calot.reading import read_json
from calot.writing import clear_disk_errors, write_json

#: What an archive belongs to; a start with anything else is refused.
NAME, LOCK = "archive.json", "archive.lock"
FORMAT = 1
#: How long to wait before asking again for what another process is scoring.
_AGAIN_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Operations in a fixed order, how one is scored, and `identity`: what all results rest on (JSON, one level of
    names that a person reads)."""

    folder: Path
    operations: Sequence[Operation]
    scorer: Scorer
    identity: Mapping[str, Any]

    def place(self, operation: Operation) -> OperationPlace:
        return OperationPlace(self.folder, operation)


@dataclass
class Mapped:
    """What a start of an archive did: operations found finished, scored now, damaged ones among these, and failed."""

    found: list[Operation] = field(default_factory=list)
    scored: list[Operation] = field(default_factory=list)
    damaged: list[Operation] = field(default_factory=list)
    failed: list[Attempt] = field(default_factory=list)


def map_operations(
    archive: Archive,
    *,
    engine: Engine,
    ui: Ui,
    check: Callable[[], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Mapped:
    """Score every operation that is not finished; one that fails is kept for the end and the others are scored.

    `check` is called between operations and may raise; `on_progress` gets the number finished. Raises CalotError where
    the folder belongs to another archive.
    """
    _claim_folder(archive)
    mapped = _verified(archive, ui=ui, check=check)
    done, finished = set(mapped.found), len(mapped.found)
    left = [operation for operation in archive.operations if operation not in done]
    if mapped.found and left:
        ui.say(f"{archive.folder}: {finished:,} of {len(archive.operations):,} operations are finished; continuing")
    job, total, waited = ScoringJob(archive.folder, archive.scorer), len(left), False
    with ui.task("scoring operations") as advance:
        while left:
            taken: list[Operation] = []
            for attempt in engine.attempts(job, left):
                if attempt.state is AttemptState.taken:
                    taken.append(attempt.operation)
                else:
                    _enter(attempt, mapped=mapped, ui=ui)
                    finished = len(mapped.found) + len(mapped.scored)
                    advance(finished + len(mapped.failed) - len(done), total)
                if on_progress is not None:
                    on_progress(finished)
                if check is not None:
                    check()
            left = taken
            if left and not waited:
                ui.say(f"another process is scoring the last {len(left):,} operations: waiting for it")
                waited = True
            left = _still_taken(left, archive=archive, mapped=mapped, check=check)
    return mapped


def _enter(attempt: Attempt, *, mapped: Mapped, ui: Ui) -> None:
    if attempt.state is AttemptState.failed:
        mapped.failed.append(attempt)
        ui.say(f"FAILED: {attempt.operation}: {attempt.why}")
    else:
        (mapped.scored if attempt.state is AttemptState.scored else mapped.found).append(attempt.operation)


def _still_taken(
    left: list[Operation], *, archive: Archive, mapped: Mapped, check: Callable[[], None] | None
) -> list[Operation]:
    """Wait until one of these operations is finished or free: engines start workers for what can be scored alone."""
    while left:
        finished = [operation for operation in left if archive.place(operation).record.exists()]
        mapped.found.extend(finished)
        left = [operation for operation in left if operation not in set(finished)]
        if any(_is_free(archive.place(operation)) for operation in left):
            break
        time.sleep(_AGAIN_S if left else 0)
        if check is not None:
            check()
    return left


def _is_free(place: OperationPlace) -> bool:
    try:
        with locked(place.claim, refusal="taken"):
            return True
    except CalotError:
        return False


def _claim_folder(archive: Archive) -> None:
    """Write what the archive belongs to, or hold a folder that another start made to it."""
    folder, own = archive.folder, {"format": FORMAT, **archive.identity}
    if folder.exists() and not folder.is_dir():
        raise CalotError(f"{folder}: a file; an archive needs a folder: give another --out")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if NAME not in names and any(name != LOCK and not name.startswith(f".{NAME}.") for name in names):
        raise CalotError(f"{folder} holds something that is not an archive of predictions: give another --out")
    with clear_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK):
        if not (folder / NAME).exists():
            write_json(folder / NAME, own)
            return
        try:
            stated = read_json(folder / NAME)
        except (OSError, ValueError, CalotError) as error:
            raise CalotError(f"{folder / NAME}: cannot be read ({error}); give another --out") from error
    _require_same(stated, own=json.loads(json.dumps(own)), folder=folder)


def _require_same(stated: Any, *, own: dict[str, Any], folder: Path) -> None:
    if not isinstance(stated, dict):
        raise CalotError(f"{folder / NAME}: not an archive's own file; give another --out")
    differ = [name for name in [*own, *(n for n in stated if n not in own)] if stated.get(name) != own.get(name)]
    if differ:
        said = "; ".join(f"{name}: {_short(stated.get(name))} -> {_short(own.get(name))}" for name in differ)
        raise CalotError(
            f"{folder}: not the same archive any more ({said}). Its results would not belong together: put back what "
            "it was begun with, or give another --out."
        )


def _short(value: Any) -> str:
    """A value for a message; of a digest its first characters, as everywhere."""
    text = value if isinstance(value, str) else "none" if value is None else json.dumps(value)
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text


def _verified(archive: Archive, *, ui: Ui, check: Callable[[], None] | None) -> Mapped:
    """What is finished and whole; the record of anything else is removed, so that it is scored again."""
    mapped = Mapped()
    with ui.task("checking finished operations") as advance:
        for number, operation in enumerate(archive.operations, 1):
            place = archive.place(operation)
            if place.record.exists():
                try:
                    archive.scorer.require(operation, table=place.table, record=place.read_record())
                    mapped.found.append(operation)
                except DamagedResult as error:
                    ui.say(f"{error}: damaged, scoring it again")
                    with clear_disk_errors(place.record):
                        place.record.unlink(missing_ok=True)
                    mapped.damaged.append(operation)
            advance(number, len(archive.operations))
            if check is not None:
                check()
    return mapped


@contextmanager
def alone_in(archive: Archive) -> Iterator[None]:
    """Within it, no other start of this archive makes its tables or sweeps: those that waited for the same last
    operation end at the same time."""
    with locked(archive.folder / LOCK):
        yield


def sweep(archive: Archive) -> None:
    """Remove what kills left behind, within `alone_in`, from an archive that is complete: nobody scores any more."""
    folder = archive.folder
    for path in [*folder.glob(".*.part"), *folder.glob("operations/*/.*.part"), *folder.glob("claims/*/*.lock")]:
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / "frames", ignore_errors=True)
