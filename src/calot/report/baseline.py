"""A run against its declared baseline, as a paired difference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from calot.report.run_folder import RunFolder
from calot.report.verdict import Reason


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The comparison in words, and as a figure where it was possible."""

    reason: Reason
    figure: Markup | None
    caption: str


def against_baseline(run: RunFolder, *, results: Path) -> Paired | None:
    return None
