"""What the page of several runs shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calot.report.run_folder import RunFolder


def runs_context(runs: Sequence[RunFolder], *, folder: Path, results: Path | None = None) -> dict[str, Any]:
    raise NotImplementedError
