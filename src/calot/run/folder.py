"""The files of a run's folder: claimed, described, read back."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator

from calot.analysis.dataset_stats import dataset_statistics
from calot.config.json_form import from_json, to_json
from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.experiment import Experiment
from calot.experiments import find
from calot.locking import locked
from calot.models.backbones.protocol import RANDOM
from calot.models.classifier import Classifier
from calot.progress import Ui
from calot.run.build import parameter_counts
from calot.run.data import OpenData
from calot.run.environment import code_hash, describe
from calot.train.loop import Progress
from calot.train.stage import Stage
from calot.writing import clear_disk_errors, whole_file, write_json

if TYPE_CHECKING:
    from calot.run.request import Request

LOCK, LOG, IMPORT = "run.lock", "train.log", "import.json"
#: Written before the first checkpoint, and what a resumed run is held against.
_DESCRIBED = ("experiment.json", "data.json", "environment.json")
_LONGER = (
    " Other epochs mean another learning rate at every step, so a longer run continues no shorter one: train it from "
    "its first step."
)
_FIRST = (
    *("stage", "epoch", "step", "lr", "train_loss", "train_clean_loss", "train_clean_map", "val_loss", "val_map"),
    *(f"val_ap_{c}" for c in CRITERIA),
)


@contextmanager
def claimed(request: Request) -> Iterator[None]:
    """Make the run's folder, or take an old one as asked, and keep other processes out of it.

    Raises CalotError when it exists and neither was asked for, when a resumed run would not be the same run, and when
    another process is at work there.
    """
    folder = request.folder
    _require_free(request)
    with clear_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, refusal=f"{folder}: another process is at work on this run; wait for it, or end it"):
        _require_free(request)  # again: it may have been another's until the lock was ours
        if request.overwrite:
            _empty(folder)
        elif request.resume:
            _require_same(request)
        yield


def _require_free(request: Request) -> None:
    folder = request.folder
    if request.imported is None and (folder / IMPORT).exists():
        raise CalotError(f"{folder}: an imported run, which was not trained here and cannot be: take another --out")
    if not _contents(folder) or request.resume:
        return
    if not request.overwrite:
        resume = "" if request.imported else "--resume goes on with it, "
        raise CalotError(f"{folder} exists: {resume}--overwrite starts it again")
    if not (folder / LOCK).exists() and not (folder / "experiment.json").exists():
        raise CalotError(f"{folder} holds something that is no run; --overwrite would delete it, so take another --out")


def _contents(folder: Path) -> list[Path]:
    """What a run left; its lock and log alone are what a refused one leaves, and nothing to lose."""
    names = {p.name for p in folder.iterdir()} if folder.exists() else set()
    return [] if names <= {LOCK, LOG} else [folder / name for name in sorted(names - {LOCK})]


def _empty(folder: Path) -> None:
    for path in _contents(folder):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _require_same(request: Request) -> None:
    folder = request.folder
    lacks = [name for name in _DESCRIBED if not (folder / name).exists()]
    if lacks and (folder / "checkpoints").exists():
        raise CalotError(
            f"{folder}: {lacks[0]} is missing, so nobody can say what its checkpoints are. Put it back, or use "
            f"--overwrite or another --out."
        )
    if not (folder / "experiment.json").exists():
        return  # killed before anything was described: nothing to go on with, nothing to contradict
    experiment, seed = read_experiment(folder)
    changes = [f"{d.field}: {d.baseline} -> {d.value}" for d in request.experiment.difference(experiment)]
    if seed != request.seed:
        changes.append(f"seed: {seed} -> {request.seed}")
    if (folder / "environment.json").exists() and _read(folder / "environment.json")["code"] != code_hash():
        changes.append("calot's own code")
    if changes:
        listed = "; ".join(changes)
        longer = _LONGER if any(c.split(":")[0].endswith(".epochs") for c in changes) else ""
        raise CalotError(f"{folder}: not the same run any more ({listed}).{longer} Use --overwrite, or another --out.")


def describe_import(request: Request, *, model: Classifier, accelerator: Accelerator, record: dict[str, Any]) -> None:
    """Write what `calot train` writes, with an empty metrics.csv and, first of all, import.json; no data.json yet."""
    folder, experiment = request.folder, request.experiment
    source = {"file": record["file"], "sha256": record["sha256"]}
    write_json(folder / IMPORT, record)
    write_json(folder / "experiment.json", _experiment(request))
    counts = model.parameter_counts()
    write_json(folder / "model.json", _model(experiment, counts) | {"weights": record["weights"]})
    environment = describe(
        precision="none: nothing was trained",
        device=str(accelerator.device),
        started=time.strftime("%Y-%m-%d %H:%M:%S"),
    )
    write_json(folder / "environment.json", environment | {"command": record["command"], "imported": source})
    write_metrics(folder / "metrics.csv", [])


def describe_first_data(folder: Path, *, data: OpenData) -> None:
    """An imported run takes the first data set that it is scored on as its own: data.json, where there is none yet."""
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


def describe_run(request: Request, *, data: OpenData, accelerator: Accelerator) -> None:
    """Write experiment.json, data.json, model.json and environment.json; on resume, hold the data against the old."""
    folder, experiment = request.folder, request.experiment
    if (folder / "data.json").exists():
        _require_same_data(folder, data=data)
    write_json(folder / "experiment.json", _experiment(request))
    write_json(folder / "data.json", _data(data))
    write_json(folder / "model.json", _model(experiment, parameter_counts(experiment)))
    if not (folder / "environment.json").exists():
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        precision = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
        environment = describe(precision=precision, device=str(accelerator.device), started=started)
        write_json(folder / "environment.json", environment)


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


def _experiment(request: Request) -> dict[str, Any]:
    experiment, found = request.experiment, request.found
    base = experiment.baseline
    difference: list[dict[str, Any]] = []
    if base is not None:
        from calot.experiment import scaled

        baseline = scaled(find(base).experiment, request.scale)
        difference = [d.to_json() for d in experiment.difference(baseline)]
    source = None
    if found.source is not None:
        with whole_file(request.folder / found.source.name) as part:
            shutil.copyfile(found.source, part)
        source = {"name": found.source.name, "sha256": found.sha256}
    return {
        "name": experiment.name,
        "baseline": base,
        "scale": request.scale,
        "seed": request.seed,
        "fingerprint": experiment.fingerprint(),
        "difference": difference,
        "experiment": to_json(experiment),
        "source": source,
        "header": found.header,
    }


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
        "backbone": spec.describe(),
        "parameters": counts,
        "tokens": {"grid": list(spec.grid), "width": spec.width},
    }


_AGAIN = "train again with --overwrite"


def read_experiment(folder: Path) -> tuple[Experiment, int]:
    """A run's resolved experiment and seed, rebuilt from calot's own classes."""
    path = folder / "experiment.json"
    data = _read(path)
    seed = data.get("seed")
    try:
        experiment = from_json(data.get("experiment"), Experiment)
    except CalotError as error:
        raise CalotError(f"{path}: {error}. The file is damaged or of another version; {_AGAIN}.") from error
    if not isinstance(experiment, Experiment):
        raise CalotError(f"{path}: holds no experiment; {_AGAIN}")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise CalotError(f"{path}: seed {seed!r} is no whole number from 0; {_AGAIN}")
    return experiment, seed


def read_data(folder: Path) -> dict[str, Any]:
    """A run's data.json."""
    if (folder / IMPORT).exists() and not (folder / "data.json").exists():
        raise CalotError(f"{folder}: imported, and not scored on any data set yet; name one with --data ROOT")
    path = folder / "data.json"
    data = _read(path)
    for name in ("root", "manifest_hash"):
        if not isinstance(data.get(name), str):
            raise CalotError(f"{path}: {name} is {data.get(name)!r}, need text; {_AGAIN}")
    return data


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CalotError(f"{path}: no such file; {path.parent} is no run's folder, or the run never started") from None
    except ValueError as error:
        raise CalotError(f"{path}: not JSON ({error}); the file is damaged, {_AGAIN}") from None
    if not isinstance(data, dict):
        raise CalotError(f"{path}: expected an object; {_AGAIN}")
    return data


def write_metrics(path: Path, rows: list[dict[str, Any]]) -> None:
    """metrics.csv, whole or not at all. An undefined value is an empty cell."""
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        more = [k for k in dict.fromkeys(k for row in rows for k in row) if k not in _FIRST]
        writer = csv.DictWriter(file, [*_FIRST, *more], lineterminator="\n")
        writer.writeheader()
        writer.writerows([{k: "" if v is None else v for k, v in row.items()} for row in rows])


@dataclass
class Reporter:
    """Progress for a person: steps as they go, a line an epoch with the time left."""

    ui: Ui
    stage: Stage
    steps: int
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
        row = progress.rows[-1] if progress.rows else None
        seen = f", val mAP so far {100 * progress.best_map:.1f}" if row and progress.best_map >= 0 else ""
        self.ui.say(
            f"stage {progress.stage + 1} epoch {progress.epoch + 1}/{self.stage.epochs} "
            f"step {progress.batch}/{self.steps} loss {loss:.4f}{seen}, at most {left:.0f} s left"
        )
