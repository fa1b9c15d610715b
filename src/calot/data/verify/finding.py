"""What a check returns: findings, which a person should fix, and notes, which need no action."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: Findings of one check that are printed; the rest is counted. JSON holds all of them.
SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong: where (`row` is the line in a text file), what, and how to fix it."""

    check: str
    file: str
    row: int | None = None
    message: str
    remedy: str

    def __str__(self) -> str:
        line = "" if self.row is None else f", line {self.row}"
        return f"{self.file}{line}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class Note:
    """Worth knowing, but not wrong: notes never change the exit code."""

    check: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """One check's share of the answer."""

    findings: tuple[Finding, ...] = ()
    notes: tuple[Note, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class CheckedFolder:
    """All that `verify` found, in the order of the checks."""

    root: Path
    findings: tuple[Finding, ...]
    notes: tuple[Note, ...]
    counts: dict[str, int]

    @property
    def passed(self) -> bool:
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        return {
            "findings": [asdict(finding) for finding in self.findings],
            "notes": [asdict(note) for note in self.notes],
            "counts": self.counts,
        }

    def text(self) -> str:
        """For people: grouped by check, the first of each and the count of the rest."""
        lines = [", ".join(f"{name} {count:,}" for name, count in self.counts.items())]
        sizes = Counter(finding.check for finding in self.findings)
        for check, size in sizes.items():
            group = [finding for finding in self.findings if finding.check == check]
            lines.append(f"\n{check}: {size:,} finding{'s' if size > 1 else ''}")
            lines += [f"  {finding}" for finding in group[:SHOWN]]
            if size > SHOWN:
                lines.append(f"  and {size - SHOWN:,} more (--json lists all)")
            lines += [f"  -> {remedy}" for remedy in dict.fromkeys(f.remedy for f in group[:SHOWN])]
        if self.notes:
            lines.append("\nNotes (they do not change the exit code):")
            lines += [f"  {note.check}: {note.message}" for note in self.notes]
        total = len(self.findings)
        lines.append(f"\n{total:,} finding{'' if total == 1 else 's'}." if total else "\nNo findings.")
        return "\n".join(lines)
