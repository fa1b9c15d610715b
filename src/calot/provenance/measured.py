"""Receipt checks that were measured once and stand for several runs: whose, under what conditions, bound by a digest.

What does not depend on a run's seed is copied whole into the receipt of every run that it stands for, which names the
run it was measured in. The digest binds the copy to the conditions: whoever changes either is found by `calot audit`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from calot.errors import CalotError
from calot.reading import read_record
from calot.writing import write_json

Kind = Literal["rehearsals", "controls"]

#: The check whose record grows after it was measured: training adds what each later stage started from.
_GROWS = "trainable parameters"
#: What a measurement depends on. All of it must be equal for one to stand for another run.
CONDITIONS = ("experiment", "baseline", "scale", "manifest", "pixels", "code", "machine")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Which checks (`names`) were measured in which run with which seed, `under` what, and the digest of it all."""

    kind: Kind
    names: tuple[str, ...]
    run: str
    seed: int
    under: Mapping[str, str]
    digest: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"names": list(self.names), "under": dict(self.under)}

    @classmethod
    def from_json(cls, data: Any) -> Measured:
        """What `to_json` wrote. Raises CalotError for anything else."""
        try:
            found = cls(**data | {"names": tuple(data["names"])})
            texts = (found.run, found.digest, *found.names, *found.under.values())
            right = found.under.keys() == set(CONDITIONS) and isinstance(found.seed, int)
        except (TypeError, KeyError, AttributeError) as error:
            raise CalotError(f"{str(data)[:60]!r} does not say where checks were measured ({error})") from None
        if not right or not all(isinstance(text, str) for text in texts):
            raise CalotError(f"{str(data)[:60]!r} does not say where checks were measured")
        return found

    @classmethod
    def of(
        cls, kind: Kind, records: Sequence[Mapping[str, Any]], *, run: Path, seed: int, under: Mapping[str, str]
    ) -> Measured:
        """Bind the records of checks, as a receipt writes them, to the run and the conditions they were measured in."""
        names = tuple(str(record["name"]) for record in records)
        digest = digest_of(records, under=under, run=str(run), seed=seed)
        return cls(kind=kind, names=names, run=str(run), seed=seed, under=dict(under), digest=digest)

    def holds(self, records: Sequence[Mapping[str, Any]]) -> bool:
        """Whether these records of checks are those that were measured."""
        mine = [record for record in records if record["name"] in self.names]
        return self.digest == digest_of(mine, under=self.under, run=self.run, seed=self.seed)

    def described(self) -> str:
        """A line for people."""
        return f"{', '.join(self.names)}: measured in {self.run} (seed {self.seed}), under the same conditions"


def digest_of(records: Sequence[Mapping[str, Any]], *, under: Mapping[str, str], run: str, seed: int) -> str:
    """SHA-256 of checks as they were measured, their conditions, and the run they were measured in."""
    checks = sorted((_as_measured(record) for record in records), key=lambda record: str(record["name"]))
    whole = {"checks": checks, "under": dict(under), "run": run, "seed": seed}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _as_measured(record: Mapping[str, Any]) -> dict[str, Any]:
    """A check's record without what training adds to it."""
    kept = {name: record.get(name) for name in ("name", "status", "why", "evidence")}
    if record["name"] != _GROWS or not isinstance(kept["evidence"], dict):
        return kept
    evidence = {name: value for name, value in kept["evidence"].items() if name != "starts"}
    return {"name": _GROWS, "evidence": evidence}


def measured_place(results: Path, kind: Kind, *, under: Mapping[str, str]) -> Path:
    """Where checks measured under these conditions are kept for other runs."""
    text = json.dumps(dict(under), sort_keys=True)
    return results / kind / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def keep_measured(measured: Measured, records: Sequence[Mapping[str, Any]], *, results: Path) -> Path:
    """Write checks for other runs to take."""
    path = measured_place(results, measured.kind, under=measured.under)
    return write_json(path, {"format": 1, "measured": measured.to_json(), "checks": list(records)})


def kept_measured(
    results: Path, kind: Kind, *, under: Mapping[str, str]
) -> tuple[Measured, list[dict[str, Any]]] | None:
    """Checks that another run measured under just these conditions; None where there are none, or not as measured."""
    try:
        data = read_record(measured_place(results, kind, under=under), remedy="remove it")
        measured, records = Measured.from_json(data.get("measured")), data.get("checks")
        if not isinstance(records, list) or measured.kind != kind or dict(measured.under) != dict(under):
            return None
        return (measured, records) if measured.holds(records) else None
    except (CalotError, TypeError, KeyError, AttributeError):
        return None
