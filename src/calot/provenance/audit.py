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
from calot.provenance.measured import Measured
from calot.provenance.receipt import Receipt, record_of
from calot.provenance.run_files import EnvironmentFile, read_file
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
    if receipt is None:
        return
    if own is not None and receipt.fingerprint != own.fingerprint:
        yield f"{folder / 'receipt.json'}: is of another treatment ({receipt.fingerprint[:12]})"
    for measured in receipt.measured:
        for wrong in _of_measured(measured, receipt, folder=folder, own=own):
            yield f"{folder / 'receipt.json'}: its {measured.kind} {wrong}"


def _of_measured(measured: Measured, receipt: Receipt, *, folder: Path, own: Identity | None) -> Iterator[str]:
    """Whether checks are as they were measured, under this run's conditions, and as the run that they name has them."""
    if not measured.holds([record_of(check) for check in receipt.checks]):
        yield f"are not what was measured in {measured.run}"
    facts = {"manifest": None if own is None else own.manifest, "code": _code_of(folder)}
    if measured.kind == "rehearsals":
        facts["experiment"] = receipt.fingerprint
    for name, mine in facts.items():
        if mine is not None and measured.under[name] != mine:
            yield f"were measured under another {name} ({measured.under[name][:12]}, here {mine[:12]})"
    source = None if measured.run == str(folder) else Receipt.load(Path(measured.run))
    for theirs in () if source is None else source.measured:
        alike = (theirs.kind, theirs.under, theirs.run) == (measured.kind, measured.under, measured.run)
        if alike and theirs.digest != measured.digest:
            yield f"are not those of {measured.run}"


def _code_of(folder: Path) -> str | None:
    path = folder / "environment.json"
    return read_file(path, EnvironmentFile, remedy=_AGAIN).get("code") if path.is_file() else None


def _s(count: int) -> str:
    return "" if count == 1 else "s"
