"""Write a run in another form, hold it to the run on real clips, and keep the figure beside it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot import __version__
from calot.deploy.card import export_card
from calot.deploy.formats import Format, Scores, format_named
from calot.deploy.scorer import SPLIT, Exportable
from calot.destination import require_folder
from calot.errors import CalotError
from calot.evaluation.predict import predictions_table
from calot.progress import Ui
from calot.reading import read_json, sha256_of
from calot.run import experiment_file
from calot.statistics.compare import compare
from calot.statistics.predictions import Predictions
from calot.writing import clear_disk_errors, write_json, write_text

#: What an export says of itself.
RECORD = "export.json"
#: The largest difference of a logit from the run's own.
TOLERANCE = 1e-4
#: Clips scored at a time.
_AT_A_TIME = 4
_PACKAGES = ("torch", "transformers", "peft", "onnx", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What to export, as what, and to where; `clips` are held against the run, `int8` adds a quantised file."""

    run: Path
    format: str
    out: Path
    data: Path | None = None
    clips: int = 16
    int8: bool = False
    overwrite: bool = False


def export_run(asked: ExportRequest, *, ui: Ui) -> dict[str, Any]:
    """Write the folder and return its `export.json`. Nothing stays where the files do not score as the run does.

    Raises CalotError for a run that is incomplete, invalid or changed, and naming what the format cannot hold.
    """
    form = format_named(asked.format)
    if asked.out.exists() and not asked.overwrite:
        raise CalotError(f"{asked.out}: exists already; choose another --out, or --overwrite replaces it")
    _require_replaceable(asked.out)
    if asked.int8 and asked.format != "onnx":
        raise CalotError(f"--int8 is a file of --format onnx; {asked.format} has no such form")
    run = Exportable.of(asked.run, data=asked.data, ui=ui)
    if (why := form.unfit(run)) is not None:
        raise CalotError(f"{asked.run}: cannot be written as {asked.format}: {why}")
    made = asked.out.with_name(f".{asked.out.name}.new")
    with clear_disk_errors(asked.out):
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        try:
            record = _written(asked, form=form, run=run, folder=made, ui=ui)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        before = asked.out.with_name(f".{asked.out.name}.before")
        shutil.rmtree(before, ignore_errors=True)
        if asked.out.exists():
            os.replace(asked.out, before)
        os.replace(made, asked.out)
        shutil.rmtree(before, ignore_errors=True)
    return record


def _require_replaceable(out: Path) -> None:
    """Raises CalotError for a folder that holds anything but an export's own files."""
    require_folder(out, records=[RECORD])
    if not out.exists():
        return
    own = {RECORD, *read_json(out / RECORD).get("files", {})} if (out / RECORD).is_file() else set()
    there = (path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    if other := sorted(set(there) - own):
        raise CalotError(
            f"--out {out}: holds {other[0]}, which is not a file of an export: --overwrite would delete it"
        )


def _written(asked: ExportRequest, *, form: Format, run: Exportable, folder: Path, ui: Ui) -> dict[str, Any]:
    ui.say(f"writing {asked.format}")
    facts = form.write(run, folder)
    places = run.chosen(asked.clips)
    (view,) = run.experiment.backbone.views
    record = {
        "format": asked.format,
        "calot": __version__,
        "run": run.folder.name,
        "fingerprint": experiment_file.read_fingerprint(run.folder),
        "seed": run.seed,
        "manifest_hash": run.manifest_hash,
        "frames": view.frames,
        "size": view.size,
        **facts,
        "split": SPLIT,
        "clips": len(places),
        "videos": len(set(run.table.videos[places].tolist())),
        "tolerance": TOLERANCE,
        "largest_difference": _difference(form.scores(folder), run=run, places=places, what=asked.format, ui=ui),
        "int8": _int8(folder, run=run, ui=ui) if asked.int8 else None,
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }
    write_text(folder / "README.md", export_card(run.folder, record=record))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    record["files"] = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
    write_json(folder / RECORD, record)
    return record


def _difference(scores: Scores, *, run: Exportable, places: NDArray[np.int64], what: str, ui: Ui) -> float:
    """The largest difference of a logit over some clips. Raises CalotError where it is beyond the tolerance."""
    largest = 0.0
    with ui.task(f"{what} beside the run") as advance:
        for first in range(0, len(places), _AT_A_TIME):
            video = run.frames(places[first : first + _AT_A_TIME])
            largest = max(largest, float(np.abs(scores(video) - run.logits(video)).max()))
            advance(min(first + _AT_A_TIME, len(places)), len(places))
    if not largest <= TOLERANCE:
        raise CalotError(
            f"{run.folder}: as {what} its logits are {largest:.1e} from the run's own, more than {TOLERANCE:.0e}: "
            "nothing was kept. Report it, with the experiment's name."
        )
    return largest


def _int8(folder: Path, *, run: Exportable, ui: Ui) -> dict[str, Any]:
    """Quantise, and what that costs: mAP of every validation clip beside the file in float32, paired by video."""
    from calot.deploy.onnx_format import FILE, INT8_FILE, onnx_scores, quantise

    quantise(folder)
    before, after = (_scored(onnx_scores(folder / name), run=run, what=name, ui=ui) for name in (FILE, INT8_FILE))
    bytes_before, bytes_after = ((folder / name).stat().st_size for name in (FILE, INT8_FILE))
    size = f"{bytes_after / bytes_before:.2f} of the bytes"
    if before.digest == after.digest:
        return {"map_difference": 0.0, "low": 0.0, "high": 0.0, "said": f"the same scores in {size}"}
    found = compare(after, before, names=("int8", "float32")).map
    value = "undefined" if found.value is None else f"{100 * found.value:+.2f} points of val mAP"
    between = (
        found.reason or "no interval"
        if found.low is None or found.high is None
        else f"{100 * found.low:+.2f} to {100 * found.high:+.2f} by video"
    )
    said = f"{value} ({between}; {len(before.labels)} clips of {len(set(run.table.videos.tolist()))} videos), {size}"
    return {"map_difference": found.value, "low": found.low, "high": found.high, "reason": found.reason, "said": said}


def _scored(scores: Scores, *, run: Exportable, what: str, ui: Ui) -> Predictions:
    every = np.arange(len(run.table))
    with ui.task(f"{what} on {SPLIT}") as advance:
        found = []
        for first in range(0, len(every), _AT_A_TIME):
            found.append(scores(run.frames(every[first : first + _AT_A_TIME])))
            advance(min(first + _AT_A_TIME, len(every)), len(every))
    facts = {"fingerprint": experiment_file.read_fingerprint(run.folder), "manifest_hash": run.manifest_hash}
    made = predictions_table(np.concatenate(found), table=run.table, seed=run.seed, **facts)
    return replace(made, source=what)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
