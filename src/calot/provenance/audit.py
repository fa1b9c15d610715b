"""Whether all that a run's folder holds belongs together: seal, checkpoints, predictions, receipt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from calot.errors import CalotError
from calot.provenance.checkpoint_files import MANIFEST, STATE, problem_of
from calot.provenance.custody import SEAL, Identity, broken_links, require_own
from calot.provenance.receipt import Receipt
from calot.reading import read_record
from calot.statistics.predictions import load_predictions

_AGAIN = "restore it from a copy, or train again"


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found of one run: `broken` links, one line each, and how much was looked at."""

    run: Path
    sealed: bool
    checkpoints: int
    tables: int
    broken: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "run": str(self.run), "broken": list(self.broken)}

    def text(self) -> str:
        """For people."""
        if self.broken:
            return "\n".join([f"{self.run}: BROKEN", *(f"  {line}" for line in self.broken)])
        held = f"{self.checkpoints} checkpoint{_s(self.checkpoints)}, {self.tables} table{_s(self.tables)}"
        seal = "sealed" if self.sealed else "not sealed (not complete, or of calot 0.1)"
        return f"{self.run}: whole; {seal}; {held}"


def audit_run(folder: Path) -> Audit:
    """Read every file that a result of this run rests on, weights included."""
    checkpoints = [p.parent for p in sorted(folder.glob(f"checkpoints/*/{MANIFEST}"))]
    tables = sorted(folder.glob("predictions/*.parquet"))
    sealed = (folder / SEAL).exists()
    return Audit(
        run=folder,
        sealed=sealed,
        checkpoints=len(checkpoints),
        tables=len(tables),
        broken=tuple(dict.fromkeys(_broken(folder, sealed=sealed, checkpoints=checkpoints, tables=tables))),
    )


def _broken(folder: Path, *, sealed: bool, checkpoints: list[Path], tables: list[Path]) -> Iterator[str]:
    if sealed:
        yield from _said(partial(broken_links, folder))
    try:
        own = Identity.of_run(folder)
    except CalotError as error:
        yield str(error)
        return
    for place in checkpoints:
        yield from _said(partial(_of_checkpoint, place, own=own))
    for path in tables:
        yield from _said(partial(_of_table, path, own=own))
    yield from _said(partial(_of_receipt, folder, own=own))


def _said(look: Callable[[], Iterator[str]]) -> Iterator[str]:
    """What a look found, and what it could not read."""
    try:
        yield from look()
    except CalotError as error:
        yield str(error)


def _of_table(path: Path, *, own: Identity | None) -> Iterator[str]:
    require_own(load_predictions(path), own=own, where=path)
    return iter(())


def _of_checkpoint(place: Path, *, own: Identity | None) -> Iterator[str]:
    if problem := problem_of(place):
        yield f"{place}: {problem}"
    elif own is not None and (wrong := own.apart(read_record(place / STATE, remedy=_AGAIN).get("run"))):
        yield f"{place}: {wrong}"


def _of_receipt(folder: Path, *, own: Identity | None) -> Iterator[str]:
    receipt = Receipt.load(folder)
    if receipt is not None and own is not None and receipt.fingerprint != own.fingerprint:
        yield f"{folder / 'receipt.json'}: is of another treatment ({receipt.fingerprint[:12]})"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
