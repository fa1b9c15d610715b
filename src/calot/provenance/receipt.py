"""The treatment receipt, `receipt.json`: eleven checks that a run's declared difference took effect, with evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal, get_args

from calot.errors import CalotError
from calot.provenance.evidence import Evidence
from calot.provenance.measured import Measured
from calot.reading import read_record
from calot.writing import write_json

NAME = "receipt.json"

#: Format 1 (calot 0.1.0) and 2 proved less: nothing through the real loader, nothing in the run itself, no floor.
FORMAT = 3

Status = Literal["passed", "failed", "not applicable", "pending"]

#: The checks by name, in their order, with what each proves.
CHECKS: Mapping[str, str] = {
    "declared difference": "every declared field is read: reverting it alone changes what the run computes",
    "trainable parameters": "exactly the declared parameters train, and each stage starts where it says",
    "gradients": "every trainable tensor gets a finite, non-zero gradient; frozen ones stay bit-identical",
    "loss terms": "each loss term alone reaches the parts of the model it names, and no other",
    "switched off": "the treatment changes what it should; switched off it equals the baseline",
    "dose": "what is applied lies in its declared band",
    "instruments": "captured attention rebuilds the module's output and answers a positive control",
    "observed": "what reached the model in the run itself, epoch by epoch, lies in its declared bands",
    "ablation": "with its own part switched off, the trained model scores otherwise",
    "ledger": "no other treatment gave equal predictions, equal ranks or logits within 1e-4",
    "controls": "the model can overfit eight clips, and shuffled labels fall to chance",
}


@dataclass(frozen=True, kw_only=True)
class ReceiptCheck:
    """One check: how it ended, why in a sentence, and the figures behind it (None where nothing was measured)."""

    name: str
    status: Status
    why: str
    evidence: Evidence | None = None

    def __post_init__(self) -> None:
        if self.name not in CHECKS:
            raise ValueError(f"receipt check {self.name!r} is none of {', '.join(CHECKS)}")
        if self.status not in get_args(Status) or not isinstance(self.why, str):
            raise ValueError(f"receipt check {self.name!r}: status {self.status!r} is none of {get_args(Status)}")


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """All checks of one run, in their order; `baseline` None where nothing was declared to differ.

    `format` is that of the file it was read from: an older one keeps its checks' names, statuses and reasons, without
    evidence. `measured` says which checks were measured once for several runs, and in which.
    """

    experiment: str
    baseline: str | None
    fingerprint: str
    checks: tuple[ReceiptCheck, ...]
    format: int = FORMAT
    measured: tuple[Measured, ...] = ()

    @property
    def failed(self) -> tuple[ReceiptCheck, ...]:
        return tuple(c for c in self.checks if c.status == "failed")

    @property
    def passed(self) -> bool:
        """Whether every check was made and none failed."""
        return all(c.status in ("passed", "not applicable") for c in self.checks) and len(self.checks) == len(CHECKS)

    @property
    def old(self) -> bool:
        """Whether an older calot wrote it, whose checks proved less."""
        return self.format < FORMAT

    def check(self, name: str) -> ReceiptCheck:
        """One check by name."""
        return next(c for c in self.checks if c.name == name)

    def with_check(self, check: ReceiptCheck) -> Receipt:
        """The same with one check put in or replaced."""
        others = {c.name: c for c in self.checks} | {check.name: check}
        return replace(self, checks=tuple(others[name] for name in CHECKS if name in others))

    def with_checks(self, checks: Iterable[ReceiptCheck]) -> Receipt:
        """The same with several checks put in or replaced."""
        return reduce(Receipt.with_check, checks, self)

    def with_measured(self, measured: Measured) -> Receipt:
        """The same with where some of its checks were measured."""
        return replace(self, measured=(*(m for m in self.measured if m.kind != measured.kind), measured))

    def lines(self) -> list[str]:
        """A short table for people, for 80 columns: a long reason continues below, in its own column."""
        marks = {"passed": "ok", "failed": "FAILED", "not applicable": "n/a", "pending": "..."}
        lines = []
        for number, check in enumerate(self.checks, start=1):
            head = f" {number:>2} {check.name:<21} {marks[check.status]:<6} "
            lines += wrap(
                check.why, width=80, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
            ) or [head.rstrip()]
        return lines

    def write(self, folder: Path) -> Path:
        """Write `receipt.json` into a run's folder."""
        head = {"experiment": self.experiment, "baseline": self.baseline, "fingerprint": self.fingerprint}
        shared = {"measured": [m.to_json() for m in self.measured]} if self.measured else {}
        whole = {"format": FORMAT, "calot": "receipt", "passed": self.passed, **head, **shared}
        return write_json(folder / NAME, whole | {"checks": [record_of(check) for check in self.checks]})

    @classmethod
    def load(cls, folder: Path) -> Receipt | None:
        """A run's receipt, or None where it has none. Raises CalotError for a damaged one, and one of a later calot."""
        path = folder / NAME
        if not path.is_file():
            return None
        again = "train the run again with --overwrite"
        data = read_record(path, remedy=again)
        try:
            written = data.get("format", 1)
            if not (isinstance(written, int) and 1 <= written <= FORMAT):
                raise CalotError(f"its format is {written!r}, this calot reads up to {FORMAT}; use a newer calot")
            checks = tuple(check_of(c, written=written) for c in data["checks"])
            measured = tuple(Measured.from_json(m) for m in data.get("measured", ()))
            head = {k: data[k] for k in ("experiment", "baseline", "fingerprint")}
            if wrong := [k for k, v in head.items() if not (isinstance(v, str) or (k == "baseline" and v is None))]:
                raise CalotError(f"its {wrong[0]} is {str(head[wrong[0]])[:60]!r}, not a name")
        except CalotError as error:
            raise CalotError(f"{path}: {error}, or {again}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CalotError(f"{path}: not a receipt ({error}); {again}") from None
        return cls(**head, checks=checks, format=written, measured=measured)


def record_of(check: ReceiptCheck) -> dict[str, Any]:
    """A check as a receipt's file has it."""
    return {
        "number": list(CHECKS).index(check.name) + 1,
        "name": check.name,
        "holds": CHECKS[check.name],
        "status": check.status,
        "why": check.why,
        "evidence": None if check.evidence is None else check.evidence.to_json(),
    }


def check_of(data: Mapping[str, Any], *, written: int = FORMAT) -> ReceiptCheck:
    """What `record_of` gave, of a file of the format `written`. Raises CalotError or ValueError for anything else."""
    kept = data["evidence"] if written == FORMAT else None
    evidence = None if kept is None else Evidence.from_json(kept)
    return ReceiptCheck(name=data["name"], status=data["status"], why=data["why"], evidence=evidence)


def verdict(checks: Sequence[ReceiptCheck]) -> str:
    """One line about a receipt: which checks failed, or that all hold."""
    failed = [c.name for c in checks if c.status == "failed"]
    if failed:
        return f"INVALID: receipt check {', '.join(failed)} failed"
    pending = [c.name for c in checks if c.status == "pending"]
    return f"{', '.join(pending)} not yet made" if pending else "all checks hold"


def failures(checks: Sequence[ReceiptCheck]) -> str:
    """Which checks failed, each with its reason."""
    return "; ".join(f"receipt check {c.name} failed ({c.why})" for c in checks if c.status == "failed")
