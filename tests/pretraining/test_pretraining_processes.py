"""Several processes pretrain as one would: steps, teacher, masks and validation, under a real launcher."""

from __future__ import annotations

import csv
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import calot
from launching import REAL, Launched, exactly, launch
from run_requests import in_float64, trainer
from safetensors.torch import load_file
from torch import Tensor

from calot.pretraining.collapse import FeatureMeter
from calot.pretraining.objective import MaskedPredictionObjective
from calot.processes import Processes
from calot.run.trainer import Trainer
from calot.train.loop import accumulate
from calot.train.progress import Progress
from calot.types import Batch

launched = [pytest.mark.long, pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="torchrun and signals")]

#: Of 34 clips the last batch of an epoch has one, so that the second process has none: 12 steps.
EXPERIMENT = (
    *("p02_anatomy_masks", "protocol=keyframes", "objective.momentum=0.9", "train.epochs=3", "train.batch=11"),
    *("train.warmup=0.5", "train.lr=1e-3", "train.adaptation.lr=1e-3", "backbone.size=32"),
    *("compute.micro_batch=3", "compute.threads=1", "compute.evaluation_batch=5"),
)
STEPS = 12


def words(phantom: Path, folder: Path, *more: str) -> list[str]:
    """What is typed after `calot` for a quick run."""
    return [
        "pretrain",
        str(phantom),
        *EXPERIMENT,
        "--scale",
        "tiny",
        "--seed",
        "0",
        "--no-receipt",
        "--out",
        str(folder),
        *more,
    ]


@pytest.fixture(scope="module")
def alone(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that one process makes."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    with exactly():
        done = calot(*words(phantom, folder), cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def two(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that two processes make."""
    folder = tmp_path_factory.mktemp("two") / "run"
    must_end_well(launch(*words(phantom, folder), cwd=folder.parent))
    return folder


def must_end_well(run: Launched) -> None:
    assert run.ended() == 0, run.said[-5000:]


def rows_of(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").open()))


def distance(one: Path, other: Path) -> float:
    """The largest difference between two runs: weights of best and last epoch, teacher included, and metrics.csv."""
    largest = 0.0
    for place in ("best", "last"):
        a, b = (load_file(run / "checkpoints" / place / "model.safetensors") for run in (one, other))
        assert a.keys() == b.keys()
        assert any(name.startswith("objective.teacher.") for name in a)
        assert {t.dtype for t in a.values() if t.is_floating_point()} == {torch.float64}
        largest = max(largest, *(float((a[name] - b[name]).abs().max()) for name in a))
    numbers = [np.array([[float(v) for v in row.values()] for row in rows_of(run)]) for run in (one, other)]
    return max(largest, float(np.abs(numbers[0] - numbers[1]).max()))


class Unheard(Processes):
    """One of several whose numbers reach nobody."""

    def _reduced(self, values: Tensor, **_: object) -> Tensor:
        return values


def opened(phantom: Path, folder: Path) -> Trainer:
    changes = [c for c in EXPERIMENT[1:] if not c.startswith("compute.threads")]
    run = in_float64(trainer(phantom, folder, *changes, name=EXPERIMENT[0]))
    assert isinstance(run.objective, MaskedPredictionObjective)
    run.objective.teacher.double()
    return run


def found_by(run: Trainer, batch: Batch, processes: Processes) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The terms and gradients of an effective batch that one of several processes finds."""
    run.progress = Progress()
    fit = replace(run.fit(run.request.experiment.train), micro_batch=2, processes=processes)
    run.model.train().zero_grad()
    terms = accumulate(fit, batch, progress=run.progress)
    return terms, {n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("clips", [1, 2, 7])
def test_what_processes_find_in_a_batch_adds_up_to_what_one_finds(clips: int, phantom: Path, tmp_path: Path) -> None:
    """Masks are drawn for the whole batch, before it is shared out; also where a process has no clips."""
    run = opened(phantom, tmp_path / "run")
    run.progress = Progress()
    batch = next(run.batches(run.request.experiment.train, epoch=0, start=0)).split(clips)[0]
    whole_terms, whole = found_by(run, batch, Processes())
    terms, gradients = zip(*(found_by(run, batch, Unheard(rank=rank, count=3)) for rank in range(3)), strict=True)
    assert whole_terms.keys() == {"anatomy", "long"}
    for name, value in whole_terms.items():
        assert sum(t.get(name, 0.0) for t in terms) == pytest.approx(value, abs=1e-12)
    for name, gradient in whole.items():
        summed = sum(torch.zeros_like(gradient) + g[name] for g in gradients if name in g)
        assert float((summed - gradient).abs().max()) < 1e-12


def test_features_of_parts_joined_are_those_of_the_whole() -> None:
    own, theirs = (torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    whole, parts = FeatureMeter(), [FeatureMeter() for _ in range(3)]
    whole.add(own, theirs)
    for meter, rows in zip(parts, (slice(0, 4), slice(4, 6), slice(6, 6)), strict=True):
        if len(own[rows]):
            meter.add(own[rows], theirs[rows])
    first, *others = parts
    for other in others:
        first.join(other)
    assert first.monitors().columns() == pytest.approx(whole.monitors().columns(), abs=1e-12)


class TestPretrainingUnderALauncher:
    pytestmark = launched

    def test_two_processes_pretrain_what_one_does(self, alone: Path, two: Path) -> None:
        assert [int(row["step"]) for row in rows_of(two)] == [4, 8, 12]
        assert {"val_anatomy", "val_long", "train_guided", "effective_rank"} <= {*rows_of(two)[0]}
        assert 0 < distance(alone, two) < 1e-9, "equal to the bit would mean that nothing was shared"

    def test_the_first_writes_weights_card_and_page(self, alone: Path, two: Path) -> None:
        for name in ("weights/config.json", "weights/model.safetensors", "weights/README.md", "report.html"):
            assert (two / name).is_file(), name
        a, b = (load_file(run / "weights" / "model.safetensors") for run in (alone, two))
        assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-6
        assert calot("audit", two, cwd=two.parent).returncode == 0

    def test_what_two_processes_began_one_ends(self, alone: Path, phantom: Path, tmp_path: Path) -> None:
        asked = words(phantom, tmp_path / "run", "--resume")
        run = launch(*asked, cwd=tmp_path)
        run.send(signal.SIGTERM, rank=1, once=tmp_path / "run" / "checkpoints" / "last" / "state.json")
        assert run.ended(within_s=120) != 0
        assert "continues with --resume" in run.said or "Continue with --resume" in run.said, run.said[-3000:]
        with exactly():
            done = calot(*asked, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert distance(alone, tmp_path / "run") < 1e-9

    def test_a_refusal_ends_both_and_is_said_once(self, alone: Path, phantom: Path, tmp_path: Path) -> None:
        run = launch(*words(phantom, alone), program=REAL, cwd=tmp_path)
        assert run.ended(within_s=300) != 0
        assert run.said.count("--resume continues it, --overwrite starts it again") == 1
