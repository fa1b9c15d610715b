"""A run that is logged: the same bytes as without, its epochs in the log, of a pretraining and a resumed run, too."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import calot
from run_requests import P01, SMALL_PRETRAINING, StopAfter, digests, requested, trained
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from calot.errors import Stopped


def _logged(run: Path) -> list[tuple[int, str, float]]:
    events = [e for file in (run / "tracking" / "tensorboard").iterdir() for e in EventFileLoader(str(file)).Load()]
    return sorted((e.step, v.tag, v.tensor.float_val[0]) for e in events for v in e.summary.value)


def _written(run: Path) -> list[tuple[int, str, float]]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return sorted((step, k, pytest.approx(float(v))) for step, row in enumerate(rows, 1) for k, v in row.items() if v)


@pytest.mark.slow
def test_a_logged_run_that_was_stopped_has_each_epoch_once_and_the_bytes_of_any_other(
    phantom: Path, tmp_path: Path
) -> None:
    plain = trained(requested(phantom, tmp_path / "plain", "e02_frozen_probe"))
    asked = replace(requested(phantom, tmp_path / "run", "e02_frozen_probe"), log=("tensorboard",), results=tmp_path)
    with pytest.raises(Stopped):
        trained(asked, StopAfter(7))
    trained(replace(asked, resume=True))
    assert digests(asked.folder) == digests(plain)
    assert _logged(asked.folder) == _written(asked.folder)
    fingerprints = {json.loads((run / "experiment.json").read_text())["fingerprint"] for run in (plain, asked.folder)}
    assert len(fingerprints) == 1
    trained(replace(asked, resume=True))  # complete: nothing is added
    assert _logged(asked.folder) == _written(asked.folder)


@pytest.mark.slow
def test_a_pretraining_is_logged_like_a_training(phantom: Path, tmp_path: Path) -> None:
    small = [word for word in SMALL_PRETRAINING if not word.startswith("train.")]
    quick = ("train.epochs=2", "train.batch=8", "train.warmup=0.5", "compute.train_subset=8")
    words = ("pretrain", phantom, *quick, *small, "--out", tmp_path / "run", "--scale", "tiny", "--no-receipt")
    done = calot(*words, "--log", "tensorboard", cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr  # 1: so small an encoder may collapse
    assert f"tensorboard --logdir {tmp_path / 'run' / 'tracking'}" in done.stderr
    assert _logged(tmp_path / "run") == _written(tmp_path / "run")
    assert {name for _, name, _ in _logged(tmp_path / "run")} >= {"val_loss", "feature_std"}
    assert P01 in (tmp_path / "run" / "experiment.json").read_text()


@pytest.mark.parametrize("command", ["train", "pretrain", "sweep", "study"])
def test_a_package_that_is_missing_is_one_line_with_its_remedy_and_no_folder(
    command: str, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calot.tracking.services.wandb.service.__class__.package", "wandb_is_not_here", raising=False)
    data = [phantom] if command == "pretrain" else ["--data", phantom]
    name = [] if command in ("study", "pretrain") else ["e02_frozen_probe"]
    done = calot(command, *name, *data, "--out", tmp_path / "run", "--log", "tensorboard,wandb", cwd=tmp_path)
    assert done.returncode == 2
    assert "--log wandb needs the package" in done.stderr
    assert done.stderr.strip().endswith("pip install 'calot[wandb]'")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
