"""Which runs need no process: they are complete, unchanged, and what is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from calot.errors import CalotError
from calot.provenance import custody
from calot.provenance.receipt import Receipt
from calot.run.claiming import require_same
from calot.run.folder import data_root
from calot.run.request import Request
from calot.sweeping.jobs import DONE, INVALID

#: Written in this order when a run ends; while one is resumed it has no seal.
SCORED = ("predictions/val.parquet", custody.SEAL)
SHOWN = (*SCORED, "report.html")


def complete_state(request: Request, *, files: Sequence[str] = SHOWN) -> str | None:
    """DONE, or INVALID where its receipt failed, of a complete run of just this request with these files; None of
    anything else, which a process then trains, resumes or refuses in its own words."""
    folder = request.folder
    if not all((folder / name).is_file() for name in files):
        return None
    try:
        custody.require_sealed(folder)
        require_same(request)
        if not _same_place(data_root(folder), request.data):
            return None
        receipt = Receipt.load(folder)
    except CalotError:
        return None
    return INVALID if receipt is not None and receipt.failed else DONE


def _same_place(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
