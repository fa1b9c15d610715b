"""Runs teach another: their mean probabilities of every training clip, as a table that a student's labels come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from calot.criteria import CRITERIA
from calot.data.teaching import TAUGHT
from calot.deploy.scorer import whole_run
from calot.destination import require_folder
from calot.errors import CalotError
from calot.pipeline import predict_run
from calot.progress import Ui
from calot.provenance.checkpoint_files import weights_digest
from calot.reading import read_json, sha256_of
from calot.run import experiment_file
from calot.statistics.predictions import Predictions, load_predictions, same_rows
from calot.writing import whole_file, write_json

TABLE, RECORD = "targets.parquet", "targets.json"


def teach(runs: Sequence[Path], *, data: Path, protocol: str, folder: Path, ui: Ui) -> Path:
    """Score the training clips of `data` with each run, and write their mean probabilities; returns the table.

    What is there of the same runs and data set is kept. Raises CalotError for a run that is incomplete, invalid or
    changed, for one of another protocol, and where runs see other clips.
    """
    if twice := next((run for run in runs if list(runs).count(run) > 1), None):
        raise CalotError(f"{twice}: named twice; each run teaches once")
    teachers = [_teacher(run, protocol=protocol) for run in runs]
    record, path = folder / RECORD, folder / TABLE
    if record.is_file() and path.is_file():
        known = read_json(record)
        if known.get("teachers") == teachers and known.get("sha256") == sha256_of(path):
            ui.say(f"soft targets: {path}, as taught before")
            return path
        raise CalotError(f"{folder}: holds soft targets of other runs; choose another --out, or remove it")
    require_folder(folder, records=[RECORD], option="the soft targets' folder")
    tables = [_scored(run, data=data, folder=folder, ui=ui) for run in runs]
    for run, table in zip(runs[1:], tables[1:], strict=True):
        if (apart := same_rows(tables[0], table)) is not None:
            raise CalotError(f"{runs[0]} and {run} see other training clips: {apart}")
    mean = np.mean([1 / (1 + np.exp(-table.logits.astype(np.float64))) for table in tables], axis=0)
    first = tables[0]
    columns: dict[str, Any] = {"video": first.frame["video"].to_list(), "frame": first.frame["frame"].to_list()}
    columns |= {name: mean[:, k] for k, name in enumerate(TAUGHT)}
    with whole_file(path) as part:
        pl.DataFrame(columns).write_parquet(part)
    facts = {"clips": len(mean), "manifest_hash": first.manifest_hash, "protocol": protocol, "sha256": sha256_of(path)}
    softness = {c: float(np.abs(mean[:, k] - mean[:, k].round()).mean()) for k, c in enumerate(CRITERIA)}
    write_json(record, {"format": 1, "teachers": teachers, **facts, "distance_from_0_or_1": softness})
    ui.say(f"soft targets of {len(mean)} training clips by {len(runs)} run{'s' if len(runs) > 1 else ''}: {path}")
    return path


def _teacher(run: Path, *, protocol: str) -> dict[str, Any]:
    experiment, _, seed = whole_run(run)
    if experiment.protocol.name != protocol:
        raise CalotError(
            f"{run}: scores under {experiment.protocol.name}, and the student trains under {protocol}: say "
            f"protocol={experiment.protocol.name} for the student, or name other teachers"
        )
    fingerprint = experiment_file.read_fingerprint(run)
    return {"experiment": experiment.name, "seed": seed, "fingerprint": fingerprint, "checkpoint": weights_digest(run)}


def _scored(run: Path, *, data: Path, folder: Path, ui: Ui) -> Predictions:
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / ".scored.parquet"
    try:
        predict_run(run, split="train", data=data, ui=ui, out=out)
        return load_predictions(out)
    finally:
        out.unlink(missing_ok=True)
