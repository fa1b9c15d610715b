"""The treatment receipt, `receipt.json`: nine checks that a run's declared difference took effect, with evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal

from calot.errors import CalotError
from calot.writing import write_json

NAME = "receipt.json"

Status = Literal["passed", "failed", "not applicable", "pending"]

#: The checks by name, in their order, with what each holds.
CHECKS: Mapping[str, str] = {
    "declared difference": "every declared field is read: reverting it alone changes what the run computes",
    "trainable parameters": "exactly the declared parameters train, and each stage starts where it says",
    "gradients": "every trainable tensor gets a finite, non-zero gradient; frozen ones stay bit-identical",
    "loss terms": "each loss term alone reaches the parts of the model it names, and no other",
    "switched off": "the treatment changes what it should; switched off it equals the baseline",
    "dose": "what is applied lies in its declared band",
    "instruments": "captured attention rebuilds the module's output and answers a positive control",
    "ledger": "no other treatment gave equal predictions",
    "controls": "the model can overfit eight clips, and shuffled labels fall to chance",
}


@dataclass(frozen=True, kw_only=True)
class ReceiptCheck:
    """One check: how it ended, why in a sentence, and the figures behind it."""

    name: str
    status: Status
    why: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in CHECKS:
            raise ValueError(f"receipt check {self.name!r} is none of {', '.join(CHECKS)}")


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """All checks of one run, in their order; `baseline` None where nothing was declared to differ."""

    experiment: str
    baseline: str | None
    fingerprint: str
    checks: tuple[ReceiptCheck, ...]

    @property
    def failed(self) -> tuple[ReceiptCheck, ...]:
        return tuple(c for c in self.checks if c.status == "failed")

    @property
    def passed(self) -> bool:
        """Whether every check was made and none failed."""
        return all(c.status in ("passed", "not applicable") for c in self.checks) and len(self.checks) == len(CHECKS)

    def with_check(self, check: ReceiptCheck) -> Receipt:
        """The same with one check put in or replaced."""
        others = {c.name: c for c in self.checks} | {check.name: check}
        return replace(self, checks=tuple(others[name] for name in CHECKS if name in others))

    def lines(self) -> list[str]:
        """A short table for people, for 80 columns: what is longer goes on below, in its own column."""
        marks = {"passed": "ok", "failed": "FAILED", "not applicable": "n/a", "pending": "..."}
        lines = []
        for number, check in enumerate(self.checks, start=1):
            head = f"  {number} {check.name:<21} {marks[check.status]:<6} "
            lines += wrap(
                check.why, width=80, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
            ) or [head.rstrip()]
        return lines

    def write(self, folder: Path) -> Path:
        """Write `receipt.json` into a run's folder."""
        checks = [{"number": list(CHECKS).index(c.name) + 1, **asdict(c), "holds": CHECKS[c.name]} for c in self.checks]
        return write_json(folder / NAME, {"passed": self.passed, **asdict(self), "checks": checks})

    @classmethod
    def load(cls, folder: Path) -> Receipt | None:
        """A run's receipt, or None where it has none. Raises CalotError for a damaged one."""
        path = folder / NAME
        if not path.is_file():
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            keep = ("name", "status", "why", "evidence")
            checks = tuple(ReceiptCheck(**{k: c[k] for k in keep}) for c in data["checks"])
            return cls(**{k: data[k] for k in ("experiment", "baseline", "fingerprint")}, checks=checks)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CalotError(f"{path}: not a receipt ({error}); train the run again with --overwrite") from None


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
