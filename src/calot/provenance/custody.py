"""Whose a run's files are: each states the run it belongs to, and one file binds them all by their digests.

A run is a treatment (its fingerprint), a seed and a data set (its manifest). Checkpoints and predictions carry that
identity; `seal.json`, written when a run is complete, has the SHA-256 of every file that a result rests on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calot.errors import CalotError
from calot.provenance.run_files import DataFile, ExperimentFile, read_file
from calot.reading import read_record, sha256_of
from calot.statistics.predictions import Predictions
from calot.statistics.schema import UNKNOWN
from calot.writing import write_json

SEAL = "seal.json"
_TOLD_BY = {"fingerprint": "experiment.json", "seed": "experiment.json", "manifest": "data.json"}
_AGAIN = "Put the run's own file back, or train again with --overwrite"
#: What a result rests on. The weights themselves are bound by their manifest's digests, and held to them when read.
_BOUND = (
    *("experiment.json", "data.json", "model.json", "environment.json", "receipt.json", "import.json", "metrics.csv"),
    *("source/**/*.py", "checkpoints/best/manifest.json", "predictions/*.parquet", "baselines/*.json"),
    *("baselines/*/*.parquet", "views/*/*.parquet", "epochs/*.parquet", "attention/*.json", "weights/*"),
)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which run a file belongs to."""

    fingerprint: str
    seed: int
    manifest: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def of_run(folder: Path) -> Identity | None:
        """What a run's folder says it is; None for one that is not described yet, or has no data set."""
        if not (folder / "experiment.json").is_file() or not (folder / "data.json").is_file():
            return None
        experiment = read_file(folder / "experiment.json", ExperimentFile)
        manifest = read_file(folder / "data.json", DataFile).get("manifest_hash")
        fingerprint, seed = experiment.get("fingerprint"), experiment.get("seed")
        if fingerprint is None or seed is None or manifest is None:
            return None
        return Identity(fingerprint=fingerprint, seed=seed, manifest=manifest)

    def apart(self, stated: Any) -> str | None:
        """How another identity, as a file states it, differs from this one; None where it is the same or unstated."""
        if stated is None:
            return None
        if not isinstance(stated, dict) or stated.keys() != asdict(self).keys():
            return "states no identity of a run that calot knows"
        found = [
            f"{name} {str(stated[name])[:12]}, not {str(own)[:12]} as {_TOLD_BY[name]} has it"
            for name, own in asdict(self).items()
            if UNKNOWN not in (stated[name], own) and stated[name] != own
        ]
        return f"belongs to another run ({'; '.join(found)})" if found else None

    def require(self, stated: Any, *, where: Path) -> None:
        """Raises CalotError naming the file where it belongs to another run."""
        if wrong := self.apart(stated):
            raise CalotError(f"{where}: {wrong}. {_AGAIN}.")


def require_own(table: Predictions, *, own: Identity | None, where: Path) -> None:
    """Raises CalotError where predictions in the folder of the run `own` are of another treatment, seed or data set."""
    if own is None:
        return
    seed = next((seed for seed in table.seeds if seed != own.seed), own.seed)
    own.require({"fingerprint": table.fingerprint, "seed": seed, "manifest": table.manifest_hash}, where=where)


def seal(folder: Path) -> None:
    """Bind a complete run's files."""
    own = Identity.of_run(folder)
    files = {name: sha256_of(folder / name) for name in _bound(folder)}
    write_json(folder / SEAL, {"format": 1, "run": None if own is None else own.to_json(), "files": files})


def unseal(folder: Path) -> None:
    """From here on a run's files change, until it is sealed again: called by whoever is about to change one, once
    nothing can be refused any more."""
    (folder / SEAL).unlink(missing_ok=True)


@contextmanager
def resealed(folder: Path) -> Iterator[None]:
    """Around a change to a run's files: a run that was sealed is sealed again."""
    sealed = (folder / SEAL).exists()
    unseal(folder)
    try:
        yield
    finally:
        if sealed:
            seal(folder)


def require_sealed(folder: Path) -> None:
    """Raises CalotError naming the first file that is not what it was when the run was complete.

    A run without a seal (of calot 0.1, or not complete) is not held to one.
    """
    if (folder / SEAL).exists() and (broken := next(broken_links(folder), None)):
        raise CalotError(f"{broken}. {_AGAIN}.")


def broken_links(folder: Path) -> Iterator[str]:
    """What is wrong between a run's files and its seal, one line each."""
    path = folder / SEAL
    record = read_record(path, remedy=_AGAIN)
    files = record.get("files")
    if record.get("format") != 1 or not isinstance(files, dict):
        raise CalotError(f"{path}: not a seal that this calot reads. {_AGAIN}.")
    for name in sorted(files.keys() | set(_bound(folder))):
        if name not in files:
            yield f"{folder / name}: was added after the run was complete"
        elif not _inside(folder, name) or not (folder / name).is_file():
            yield f"{folder / name}: is missing, and the run's result rests on it"
        elif sha256_of(folder / name) != files[name]:
            yield f"{folder / name}: was changed after the run was complete"
    own = Identity.of_run(folder)
    if own is not None and (wrong := own.apart(record.get("run"))):
        yield f"{path}: {wrong}"


def _bound(folder: Path) -> list[str]:
    found = (path for pattern in _BOUND for path in folder.glob(pattern) if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _inside(folder: Path, name: str) -> bool:
    return (folder / name).resolve().is_relative_to(folder.resolve())
