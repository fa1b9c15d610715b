"""Every opening of a test split is counted where the data set is, and printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calot.progress import Ui


def counting_test(run: Path, *, split: str, data: Path, results: Path, ui: Ui) -> Callable[[str], None]:
    """What a command calls with the manifest's hash before it opens a split."""

    def on_open(manifest_hash: str) -> None:
        from calot.provenance.data_ledger import DataLedger
        from calot.provenance.ledger import TEST_OPENED

        if split != "test":
            return
        record = DataLedger(manifest_hash=manifest_hash, data=data, results=results)
        record.record(TEST_OPENED, run=str(run))
        count = record.test_openings()
        ui.say(f"test opened for this data set: {count} time{'s' if count != 1 else ''}, wherever results go")

    return on_open
