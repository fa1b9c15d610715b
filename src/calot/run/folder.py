"""The files of a run's folder: what describes it, and its scores by epoch."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator

from calot.analysis.dataset_stats import dataset_statistics
from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.experiment import Experiment
from calot.models.backbones.protocol import RANDOM
from calot.models.checkpoints import EMBEDDED, EMBEDDED_IS, ReadFrom
from calot.models.classifier import Classifier
from calot.progress import Ui
from calot.provenance.custody import unseal
from calot.provenance.run_files import DataFile, ModelFile, read_file
from calot.reading import sha256_of
from calot.run import experiment_file
from calot.run.build import parameter_counts
from calot.run.claiming import IMPORT, settle
from calot.run.data import OpenData
from calot.run.environment import describe
from calot.run.experiment_file import AGAIN, experiment_record
from calot.train.objective import Selection
from calot.train.progress import Progress
from calot.train.stage import Stage
from calot.writing import whole_file, write_json

if TYPE_CHECKING:
    from calot.run.request import Request

#: What a run's folder says of its model.
MODEL_FILE = "model.json"

_FIRST = (
    *("stage", "epoch", "step", "lr", "train_loss", "train_clean_loss", "train_clean_map", "val_loss", "val_map"),
    *(f"val_ap_{c}" for c in CRITERIA),
)


def describe_import(request: Request, *, model: Classifier, accelerator: Accelerator, record: dict[str, Any]) -> None:
    """Write what `calot train` writes, with an empty metrics.csv and, first of all, import.json; no data.json yet."""
    folder, experiment = request.folder, request.experiment
    source = {"file": record["file"], "sha256": record["sha256"]}
    write_json(folder / IMPORT, record)
    write_json(folder / experiment_file.NAME, experiment_record(request))
    settle(folder)
    counts = model.parameter_counts()
    write_json(folder / MODEL_FILE, _model(experiment, counts) | {"weights": record["weights"]})
    environment = describe(
        precision="none: nothing was trained",
        device=str(accelerator.device),
        started=time.strftime("%Y-%m-%d %H:%M:%S"),
    )
    write_json(folder / "environment.json", environment | {"command": record["command"], "imported": source})
    write_metrics(folder / "metrics.csv", [])


def describe_first_data(folder: Path, *, data: OpenData) -> None:
    """An imported run adopts the first data set that it is scored on: writes data.json if there is none yet."""
    if not (folder / "data.json").exists():
        write_json(folder / "data.json", _data(data))


def require_own_data(folder: Path, *, data: OpenData) -> None:
    """Raises CalotError where a run was described on other frames or labels: its predictions would be lost."""
    if not (folder / "data.json").exists():
        return
    if (own := read_data(folder)["manifest_hash"]) != data.manifest.hash:
        raise CalotError(
            f"{folder}: its predictions are of another data set (manifest {own[:12]}) than {data.root} "
            f"({data.manifest.hash[:12]}) and would be lost. Use: calot predict {folder} --data {data.root} --out FILE"
        )


def describe_run(
    request: Request, *, data: OpenData, accelerator: Accelerator, read_from: ReadFrom | None = None
) -> None:
    """Write experiment.json, data.json, model.json and environment.json; on resume, check the data against the old."""
    folder, experiment = request.folder, request.experiment
    if (folder / "data.json").exists():
        _require_same_data(folder, data=data)
        require_own_weights(folder, read_from=read_from)
    unseal(folder)
    write_json(folder / experiment_file.NAME, experiment_record(request))
    settle(folder)
    write_json(folder / "data.json", _data(data))
    write_json(folder / MODEL_FILE, _model(experiment, parameter_counts(experiment)) | _files(read_from))
    if not (folder / "environment.json").exists():
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        precision = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
        environment = describe(precision=precision, device=str(accelerator.device), started=started)
        several = {"processes": accelerator.num_processes} if accelerator.num_processes > 1 else {}
        write_json(folder / "environment.json", environment | several)


def _require_same_data(folder: Path, *, data: OpenData) -> None:
    was = read_data(folder)
    pairs = {"manifest": (was["manifest_hash"], data.manifest.hash)}
    pairs |= {f"frames of {split}": (was["pixels"].get(split), now) for split, now in data.pixels().items()}
    old_masks, new_masks = ((m or {}).get("splits", {}) for m in (was.get("masks"), data.mask_sources()))
    pairs |= {f"masks of {s}": (old_masks.get(s, {}).get("digest"), new["digest"]) for s, new in new_masks.items()}
    changes = [f"{what} {old[:12]} -> {new[:12]}" for what, (old, new) in pairs.items() if old and old != new]
    if changes:
        raise CalotError(
            f"{folder}: the data set has changed ({'; '.join(changes)}). Put the old one back, or use another --out."
        )


def _data(data: OpenData) -> dict[str, Any]:
    protocol = data.experiment.protocol
    statistics = dataset_statistics(data.manifest, protocol=protocol)
    return {
        "root": str(data.root),
        "dropped": data.dropped(),
        "dataset": data.manifest.dataset,
        "synthetic": data.manifest.dataset == "phantom",
        "protocol": protocol.name,
        "causal": protocol.causal,
        "window": f"{data.experiment.clip.length} {protocol.window}, {data.experiment.clip.stride} s apart",
        "label_rule": _in_words(data.experiment.label),
        "manifest_hash": data.manifest.hash,
        "understood": data.understood().to_dict(),
        "windows": data.windows(),
        "videos": {s: sorted(set(data.manifest.split(s).videos)) for s in data.manifest.splits},
        "pixels": data.pixels(),
        "masks": data.mask_sources(),
        "splits": statistics.to_dict()["splits"],
    }


def _in_words(component: Any) -> str:
    """A component's own first sentence, to stand inside another."""
    text = (type(component).__doc__ or type(component).__name__).split(".")[0]
    return text[0].lower() + text[1:]


def _model(experiment: Experiment, counts: dict[str, Any]) -> dict[str, Any]:
    spec = experiment.backbone
    return {
        "weights": spec.weights or RANDOM,
        "weights_are": EMBEDDED_IS if spec.weights == EMBEDDED else None,
        "backbone": spec.describe(),
        "parameters": counts,
        "tokens": {"grid": list(spec.grid), "width": spec.width},
    }


def _files(read_from: ReadFrom | None) -> dict[str, Any]:
    """Which bytes the published weights were: each file's SHA-256, and the key of one that holds several encoders."""
    if read_from is None:
        return {}
    return {
        "weights_files": {path.name: sha256_of(path) for path in read_from.files},
        "weights_key": read_from.key,
    }


def require_own_weights(folder: Path, *, read_from: ReadFrom | None) -> None:
    """Raises CalotError where the published weights that a run leaves to their source are not those it trained on."""
    if read_from is None or not (folder / MODEL_FILE).exists():
        return
    known = read_file(folder / MODEL_FILE, ModelFile, remedy=AGAIN).get("weights_files") or {}
    for name, digest in _files(read_from)["weights_files"].items() if known else ():
        if name in known and known[name] != digest:
            raise CalotError(
                f"{folder}: {name} is not the file it was trained on (sha256 {digest[:12]}, then {known[name][:12]}): "
                "its frozen encoder would be another one. Put the old file back, or train again."
            )


def read_data(folder: Path) -> dict[str, Any]:
    """A run's data.json."""
    if (folder / IMPORT).exists() and not (folder / "data.json").exists():
        raise CalotError(f"{folder}: imported, and not scored on any data set yet; name one with --data ROOT")
    path = folder / "data.json"
    data = read_file(path, DataFile, remedy=f"{folder} is not a run's folder, or {AGAIN}")
    if absent := [name for name in ("root", "manifest_hash") if name not in data]:
        raise CalotError(f"{path}: {absent[0]} is missing; {AGAIN}")
    return data


def data_root(folder: Path, *, named: Path | None = None) -> Path:
    """Where the data lie that a command reads for a run: what it was named, else what the run was trained on."""
    return Path(read_data(folder)["root"]) if named is None else named


def write_metrics(path: Path, rows: list[dict[str, Any]]) -> None:
    """metrics.csv, whole or not at all. An undefined value is an empty cell."""
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        there = list(dict.fromkeys(k for row in rows for k in row)) or list(_FIRST)
        columns = [*(k for k in _FIRST if k in there), *(k for k in there if k not in _FIRST)]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows([{k: "" if v is None else v for k, v in row.items()} for row in rows])


@dataclass
class Reporter:
    """Progress for a person: steps as they go, and one line per epoch with the time left."""

    ui: Ui
    stage: Stage
    steps: int
    selection: Selection
    start: float = field(default_factory=time.monotonic)
    first: int | None = None
    last: float = field(default_factory=time.monotonic)

    def __call__(self, progress: Progress, loss: float) -> None:
        done, total = progress.epoch * self.steps + progress.batch, self.stage.epochs * self.steps
        self.first = done - 1 if self.first is None else self.first
        now = time.monotonic()
        if now - self.last < 10 and progress.batch < self.steps:
            return
        self.last = now
        left = (now - self.start) / max(1, done - self.first) * (total - done)
        best, select = progress.best_score, self.selection
        seen = "" if best is None or select.column == "epoch" else f", {select.title} so far {select.shown(best)}"
        self.ui.say(
            f"stage {progress.stage + 1} epoch {progress.epoch + 1}/{self.stage.epochs} "
            f"step {progress.batch}/{self.steps} loss {loss:.4f}{seen}, at most {left:.0f} s left"
        )
