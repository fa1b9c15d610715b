"""`calot predict` with several data sets or an engine: an archive, operation by operation."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from calot.cli.next_step import say_next

if TYPE_CHECKING:
    from calot.archive.engines import Engine


class EngineName(StrEnum):
    """Who scores the operations."""

    inline = "inline"
    processes = "processes"
    ray = "ray"


def predict_archive(
    run: Path,
    *,
    data: Sequence[Path],
    split: str,
    out: Path | None,
    engine: EngineName | None,
    workers: int | None,
    json: bool,
    trust: bool,
) -> None:
    """Score an archive or continue; exit code 1 where an operation failed, each of them named."""
    from calot.archive.predictions import ArchiveRequest, score_archive
    from calot.errors import CalotError
    from calot.progress import Ui
    from calot.run.signals import stop_on_signal

    if out is None:
        raise CalotError(
            "several data sets, --engine and --workers need --out, the folder of the archive's predictions"
        )
    ui, request = Ui(), ArchiveRequest(run=run, roots=data, split=split, out=out, trust=trust)
    chosen = _engine(engine, workers=workers)
    with stop_on_signal(f"{out}: stopped. Run the same command again to continue.") as stopper:
        result = score_archive(request, engine=chosen, ui=ui, stopper=stopper)
    failed, summary = result.mapped.failed, result.to_json()
    for one in failed:
        ui.say(f"FAILED: {one.operation}: {one.why}")
    if json:
        print(json_module.dumps(summary, indent=1))
    else:
        scored, found = summary["scored"], summary["found"]
        print(f"{out}: {scored:,} operations scored now, {found:,} found finished, {len(failed):,} failed")
        for path in result.tables.values():
            print(path)
    if failed:
        ui.say(
            "a data set with failed operations has no table. Put their files right, then run the same command again."
        )
        raise typer.Exit(1)
    if not json and len(result.tables) == 1:
        say_next("metrics", *result.tables.values())


def require_no_recording(data: Sequence[Path]) -> None:
    """Raises CalotError for a recording in the place of a data set's folder."""
    from calot.data.filenames import VIDEOS
    from calot.errors import CalotError

    for path in data:
        if path.suffix.lower() in VIDEOS and not path.is_dir():
            raise CalotError(f"{path}: recordings by themselves are not read yet: give the folder of a data set")


def _engine(name: EngineName | None, *, workers: int | None) -> Engine:
    """The engine asked for; `--workers` alone means processes. Raises CalotError for workers that nobody uses."""
    from calot.archive.engines import Inline
    from calot.archive.local import LocalProcesses
    from calot.archive.ray_data import RayData
    from calot.errors import CalotError

    if name is EngineName.inline or (name is None and workers is None):
        if workers is not None:
            raise CalotError("--workers goes with --engine processes or ray: inline is this process alone")
        return Inline()
    return RayData(workers=workers or 2) if name is EngineName.ray else LocalProcesses(workers=workers or 2)
