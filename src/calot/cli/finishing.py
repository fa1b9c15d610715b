"""What follows a run's last predictions: its line in the ledger, its closed receipt, its seal, its page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from calot.wall import spent_on

if TYPE_CHECKING:
    from calot.progress import Ui
    from calot.statistics.predictions import Predictions


@spent_on("page")
def finish(folder: Path, *, ui: Ui, results: Path, split: str = "val", page: bool = True) -> None:
    """A line in the ledger, the run's seal, and unless it is left for later the page with pictures of its clips."""
    from calot.provenance.custody import seal, unseal
    from calot.receipts.receipt import closing_receipt
    from calot.statistics.predictions import load_predictions

    predictions = load_predictions(folder / "predictions" / f"{split}.parquet").with_labels()
    twins = _enter(predictions, folder=folder, results=results, ui=ui)
    if split == "val":
        unseal(folder)
        closing_receipt(folder, twins=twins, ui=ui)
        seal(folder)
    if not page:
        return
    from calot.report.page import write_report

    draw_clips(predictions, run=folder, folder=folder, ui=ui)
    ui.say(f"report: {write_report(folder, results=results)}")


def draw_clips(predictions: Predictions, *, run: Path, folder: Path, ui: Ui) -> None:
    """Pictures of the clips that the page of `folder` shows, from the data set of `run`."""
    from calot.pipeline import clip_frames
    from calot.report.pictures import choose_clips, write_clip_sheet

    choices, split = choose_clips(predictions), predictions.split
    frames = clip_frames(run, split=split, clips=[(c.video, c.frame) for c in choices], ui=ui)
    for choice, images in zip(choices, frames, strict=True):
        write_clip_sheet(images, folder / "figures" / "clips" / split / choice.file_name)


def _enter(predictions: Predictions, *, folder: Path, results: Path, ui: Ui) -> list[str]:
    """Enter predictions into the ledger; report and return which runs of another treatment gave the same ones.

    They are entered before the look-up: of two processes that end at once, at least one finds the other.
    """
    from calot.provenance.data_ledger import DataLedger
    from calot.provenance.ledger import PREDICTED
    from calot.provenance.twins import sketch
    from calot.run.environment import code_hash

    record, code = DataLedger(manifest_hash=predictions.manifest_hash, results=results), code_hash()
    found = sketch(predictions.logits, digest=predictions.digest)
    of = {"fingerprint": predictions.fingerprint, "split": predictions.split}
    record.record(PREDICTED, run=str(folder), code=code, **found, **of)
    twins = record.twins(found, code=code, **of)
    for twin in twins:
        ui.say(f"INVALID: another treatment gave {twin.alike} ({twin.entry.facts.get('run')}): it took no effect")
    return [str(twin) for twin in twins]
