"""What a pretraining was, as its own files say: the card of its weights and its page show the same facts."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from calot.provenance.checkpoint_files import STATE
from calot.provenance.run_files import DataFile, EnvironmentFile, ExperimentFile, ModelFile, read_file
from calot.reading import read_json

#: The columns of metrics.csv that a card shows, where it has them.
CURVES = ("train_loss", "val_loss", "feature_std", "feature_spread", "effective_rank", "teacher_cosine", "collapsed")

#: Features that vary less than this share of their size say nearly the same of every token. At tiny scale healthy runs
#: stay above 0.44, and one without a teacher falls below 0.25 within 15 to 30 steps.
LEAST_SPREAD = 0.25
#: Features that span fewer directions than this say one thing.
LEAST_RANK = 2.0


def epochs_of(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv."""
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def kept_epoch(folder: Path) -> dict[str, str]:
    """The row of the epoch whose weights are the run's result."""
    at = read_json(folder / "checkpoints" / "best" / STATE)["progress"]
    stage, epoch = str(at["stage"] + 1), str(at["epoch"])
    return next(row for row in epochs_of(folder) if (row["stage"], row["epoch"]) == (stage, epoch))


def without_scores(folder: Path) -> bool:
    """Whether a run's metrics.csv is of an objective that reads no labels: such a run has no predictions."""
    try:
        with (folder / "metrics.csv").open(encoding="utf-8") as file:
            columns = file.readline().strip().split(",")
    except (OSError, UnicodeDecodeError):
        return False
    return "val_loss" in columns and "val_map" not in columns


def pretraining_facts(folder: Path) -> dict[str, Any]:
    """What was trained, on what and how, by what it is called. Raises CalotError for a file that is unreadable."""
    record, data = read_file(folder / "experiment.json", ExperimentFile), read_file(folder / "data.json", DataFile)
    environment = read_file(folder / "environment.json", EnvironmentFile)
    model = read_file(folder / "model.json", ModelFile)
    splits, synthetic = data["splits"], " (synthetic)" if data["synthetic"] else ""
    kept, count = kept_epoch(folder), len(epochs_of(folder))
    read = "no label was read" if data.get("masks") is None else "no label was read, its segmentation masks were"
    return {
        "encoder": model["backbone"],
        "started from": "random weights" if model["weights"] == "random" else model["weights"],
        "data": f"{data['dataset']}{synthetic}, manifest {data['manifest_hash'][:12]}",
        "trained on": f"{splits['train']['videos']} training videos; {read}",
        "val loss on": f"{splits['val']['videos']} validation videos, which trained nothing; test is unread",
        "pretraining": f"{record['name']} at scale {record['scale']}, fingerprint {record['fingerprint']}",
        "seed": record["seed"],
        "command": f"`{environment['command']}`",
        "made with": f"calot {environment['calot']}, torch {environment['packages'].get('torch')}",
        "epoch kept": f"{kept['epoch']} of {count}, val loss {float(kept['val_loss']):.4g}",
    }
