"""A pretrained encoder as a folder: what `backbone.weights` takes and transformers reads, with a card."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path
from typing import Any

from calot.experiment import Experiment
from calot.models.backbones.protocol import RANDOM, Backbone
from calot.phantom.spec import PhantomSpec
from calot.provenance.checkpoint_files import STATE
from calot.reading import read_json
from calot.run import folder as run_folder
from calot.run.experiment_file import NAME
from calot.writing import clear_disk_errors, write_text

#: The folder's name inside a run's.
WEIGHTS = "weights"

_SHOWN = ("train_loss", "val_loss", "feature_std", "feature_spread", "effective_rank", "teacher_cosine", "collapsed")


def write_weights(folder: Path, *, backbone: Backbone, experiment: Experiment) -> Path:
    """Write `weights/` of a complete run: configuration, tensors and card, all of them or none."""
    made, place = folder / f"{WEIGHTS}.new", folder / WEIGHTS
    with clear_disk_errors(place):
        shutil.rmtree(made, ignore_errors=True)
        backbone.spec.write(backbone.model, made)
        write_text(made / "README.md", card(folder, experiment=experiment))
        shutil.rmtree(place, ignore_errors=True)
        os.replace(made, place)
    return place


def epochs_of(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv."""
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def kept_epoch(folder: Path) -> dict[str, str]:
    """The row of the epoch whose weights are the run's result."""
    at = read_json(folder / "checkpoints" / "best" / STATE)["progress"]
    stage, epoch = str(at["stage"] + 1), str(at["epoch"])
    return next(row for row in epochs_of(folder) if (row["stage"], row["epoch"]) == (stage, epoch))


def card(folder: Path, *, experiment: Experiment) -> str:
    """What was trained, on what, how, and what its curve was; in Markdown."""
    record, data = read_json(folder / NAME), run_folder.read_data(folder)
    environment, rows = read_json(folder / "environment.json"), epochs_of(folder)
    kept, synthetic = kept_epoch(folder), " (synthetic)" if data["synthetic"] else ""
    facts: dict[str, Any] = {
        "encoder": experiment.backbone.describe(),
        "started from": experiment.backbone.weights or f"{RANDOM} weights",
        "data": f"{data['dataset']}{synthetic}, manifest {data['manifest_hash'][:12]}",
        **_drawn(Path(data["root"])),
        "trained on": f"{data['splits']['train']['videos']} training videos; no label was read",
        "val loss on": f"{data['splits']['val']['videos']} validation videos, which trained nothing; test is unread",
        "pretraining": f"{record['name']} at scale {record['scale']}, fingerprint {record['fingerprint']}",
        "seed": record["seed"],
        "command": f"`{environment['command']}`",
        "made with": f"calot {environment['calot']}, torch {environment['packages'].get('torch')}",
        "epoch kept": f"{kept['epoch']} of {len(rows)}, val loss {float(kept['val_loss']):.4g}",
    }
    shown = [column for column in _SHOWN if column in kept]
    lines = [f"| epoch | {' | '.join(shown)} |", f"|---{'|---' * len(shown)}|"]
    lines += [f"| {row['epoch']} | {' | '.join(f'{float(row[c]):.4g}' for c in shown)} |" for row in _some(rows)]
    return "\n".join(
        [
            f"# {record['name']}: a pretrained video encoder",
            "",
            *(f"- {what}: {value}" for what, value in facts.items()),
            "",
            *lines,
            "",
            "Load it with `backbone.weights=FOLDER` in calot, or with `from_pretrained(FOLDER)` of transformers.",
            "The encoder is the trained one, not the teacher's moving average. Research only, not a medical device.",
            "",
        ]
    )


def _drawn(root: Path) -> dict[str, str]:
    """How a phantom was drawn, and the licence of what a drawing taught; nothing where the data set is none."""
    if not (root / "phantom.json").is_file():
        return {"licence": "that of the data, which the weights follow"}
    spec = read_json(root / "phantom.json")["spec"]
    plain = PhantomSpec().to_dict()
    changed = ", ".join(f"{name} {value}" for name, value in spec.items() if plain.get(name) != value)
    licence = "Apache-2.0, as calot: no patient's picture is in it"
    return {"drawn by": f"`calot data phantom`: {changed}", "licence": licence}


def _some(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """At most about a dozen epochs, the first and the last among them."""
    step = max(1, len(rows) // 10)
    return [row for place, row in enumerate(rows) if place % step == 0 or row is rows[-1]]
