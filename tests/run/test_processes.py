"""Several processes train one run as one would: under a real launcher, to the last digits, and however it ends."""

import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from command_line import calot
from launching import REAL, Launched, exactly, launch
from run_requests import in_double, trainer, without_chance
from safetensors.torch import load_file
from torch import Tensor

from calot.data.dataset import EpochIndices
from calot.errors import CalotError
from calot.processes import Processes
from calot.run.device import join_processes
from calot.run.trainer import Trainer
from calot.train.loop import accumulate
from calot.train.progress import Progress
from calot.train.stage import Compute
from calot.types import IGNORED, Batch

launched = [pytest.mark.long, pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="torchrun and signals")]

#: Mixing, masks in two terms (one from the second epoch on), an adapter, then another stage: 20 steps. Of 34 clips the
#: last batch of an epoch has one, so that the second process has none.
EXPERIMENT = (
    *("e11_attention_supervision", "mixing=Mixing()", "label_smoothing=0.1", "train.epochs=3", "train.batch=11"),
    "then=(Stage(epochs=2, batch=11, lr=1e-4, warmup=0.5, adaptation=FullFineTune(lr=1e-5)),)",
    *("train.warmup=0.5", "train.patience=3", "compute.train_subset=8", "compute.evaluation_batch=5"),
    *("compute.micro_batch=3", "compute.threads=1", "backbone.size=32"),
)
STEPS = 20


def words(phantom: Path, folder: Path, *more: str, experiment: tuple[str, ...] = EXPERIMENT) -> list[str]:
    """What is typed after `calot` for a quick run."""
    where = ["--data", str(phantom), "--out", str(folder), "--results", str(folder.parent / "ledger")]
    return ["train", *experiment, *where, "--scale", "tiny", "--seeds", "0", "--no-receipt", *more]


@pytest.fixture(scope="module")
def alone(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that one process makes."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    with exactly():
        done = calot(*words(phantom, folder), cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder


def weights(run: Path, place: str) -> dict[str, Tensor]:
    return load_file(run / "checkpoints" / place / "model.safetensors")


def distance(one: Path, other: Path) -> float:
    """The largest difference between two runs: weights of the best and last epoch, and every number of metrics.csv."""
    largest = 0.0
    for place in ("best", "last"):
        a, b = weights(one, place), weights(other, place)
        assert a.keys() == b.keys()
        assert {t.dtype for t in a.values() if t.is_floating_point()} == {torch.float64}
        largest = max(largest, *(float((a[name] - b[name]).abs().max()) for name in a))
    tables = [pl.read_csv(run / "metrics.csv", infer_schema_length=None).cast(pl.Float64) for run in (one, other)]
    assert tables[0].columns == tables[1].columns
    numbers = [table.to_numpy() for table in tables]
    assert np.array_equal(np.isnan(numbers[0]), np.isnan(numbers[1]))
    return max(largest, float(np.nanmax(np.abs(numbers[0] - numbers[1]))))


def must_end_well(run: Launched) -> None:
    assert run.ended() == 0, run.said[-5000:]


def stopped_after(steps: int, asked: list[str], *, cwd: Path) -> None:
    """The run of one process, ended by a signal after some steps."""
    left = iter(range(steps - 1))
    with exactly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("calot.run.signals.Stopper.asked", lambda self: next(left, None) is None)
        assert calot(*asked, cwd=cwd).returncode == 75


@pytest.mark.parametrize("count", range(1, 5))
@pytest.mark.parametrize("clips", [0, 1, 2, 3, 7, 8])
def test_each_clip_is_one_processs(count: int, clips: int) -> None:
    blocks = [Processes(rank=rank, count=count).block(clips) for rank in range(count)]
    assert [place for block in blocks for place in block] == list(range(clips))
    sizes = [len(block) for block in blocks]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


class Unheard(Processes):
    """One of several whose numbers reach nobody."""

    def _reduced(self, values: Tensor, **_: object) -> Tensor:
        return values


def found_by(run: Trainer, batch: Batch, processes: Processes) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The terms and gradients of an effective batch that one of several processes finds."""
    progress = run.progress = Progress(epoch=1)
    fit = replace(run.fit(run.request.experiment.train), micro_batch=2, processes=processes)
    run.model.train().zero_grad()
    terms = accumulate(fit, batch, progress=progress)
    return terms, {n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("clips", [1, 2, 7])
def test_what_processes_find_in_a_batch_adds_up_to_what_one_finds(clips: int, phantom: Path, tmp_path: Path) -> None:
    """Also where one has no clips, or none with a mask."""
    run = without_chance(trainer(phantom, tmp_path, "backbone.size=32", name="e11_attention_supervision"))
    batch = in_double(run.train_set[EpochIndices(epoch=0, indices=tuple(range(clips)))])
    assert batch.masks is not None
    for part in (batch.masks.values, batch.masks.weight, batch.masks.complete):  # the last ones have none
        part[clips - clips // 2 :] = IGNORED if part.dtype == torch.uint8 else 0
    whole_terms, whole = found_by(run, batch, Processes())
    terms, gradients = zip(*(found_by(run, batch, Unheard(rank=rank, count=3)) for rank in range(3)), strict=True)
    assert whole_terms.keys() == {"criteria", "segmentation", "attention"}
    for name, value in whole_terms.items():
        assert sum(t.get(name, 0.0) for t in terms) == pytest.approx(value, abs=1e-12)
    for name, gradient in whole.items():
        summed = sum(torch.zeros_like(gradient) + g[name] for g in gradients if name in g)
        assert float((summed - gradient).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "2"}, r"WORLD_SIZE=2, but RANK is not set: start several processes with torchrun"),
        ({"ACCELERATE_USE_FSDP": "true"}, r"calot divides batches, not the model.*torchrun.*CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_launcher_that_says_too_little_or_divides_the_model_is_refused(
    environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CalotError, match=said):
        join_processes(Compute(device="cpu"))


@pytest.fixture(scope="module")
def two(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that two processes make."""
    folder = tmp_path_factory.mktemp("two") / "run"
    must_end_well(launch(*words(phantom, folder), cwd=folder.parent))
    return folder


class TestUnderALauncher:
    pytestmark = launched

    def test_two_processes_train_what_one_does(self, alone: Path, two: Path) -> None:
        rows = pl.read_csv(two / "metrics.csv")
        assert rows.group_by("stage").agg(pl.col("step").max())["step"].sum() == STEPS
        assert {"val_miou", "val_attention_on_anatomy", "train_attention"} <= {*rows.columns}
        assert 0 < distance(alone, two) < 1e-9, "equal to the bit would mean that nothing was shared"

    def test_predictions_hold_each_clip_once_and_as_one_process_gives_them(self, alone: Path, two: Path) -> None:
        tables = [pl.read_parquet(run / "predictions" / "val.parquet") for run in (alone, two)]
        keys = ["video", "frame"]
        assert tables[0].select(keys).rows() == tables[1].select(keys).rows()
        assert tables[1].select(keys).is_duplicated().sum() == 0
        logits = [table.select(pl.col("^logit_.*$")).to_numpy() for table in tables]
        assert np.abs(logits[0] - logits[1]).max() < 1e-6  # they are kept in float32

    def test_what_two_processes_began_one_ends(self, alone: Path, phantom: Path, tmp_path: Path) -> None:
        """The second one is killed; the first then ends, too, and says why."""
        asked = words(phantom, tmp_path / "run", "compute.checkpoint_every_s=0", "--resume")
        run = launch(*asked, cwd=tmp_path)
        run.send(signal.SIGKILL, rank=1, once=tmp_path / "run" / "checkpoints" / "best" / "state.json")
        assert run.ended(within_s=60) != 0
        lost = "another process of this run ended, or does not answer; if it said nothing, it was killed"
        stopped = "continues with --resume"  # between steps the launcher's SIGTERM may come first
        assert lost in run.said or stopped in run.said, run.said
        assert self._steps(tmp_path / "run") < STEPS
        with exactly():
            done = calot(*asked, cwd=tmp_path)
        assert (done.returncode, "resuming at stage" in done.stderr) == (0, True), done.stderr
        assert distance(alone, tmp_path / "run") < 1e-9

    def test_what_one_process_began_two_end(self, alone: Path, phantom: Path, tmp_path: Path) -> None:
        asked = words(phantom, tmp_path / "run", "--resume")
        stopped_after(3, asked, cwd=tmp_path)
        run = launch(*asked, cwd=tmp_path)
        must_end_well(run)
        assert run.said.count("resuming at stage 1, epoch 1, step 4") == 1, "one of them speaks"
        assert distance(alone, tmp_path / "run") < 1e-9

    @pytest.mark.parametrize(("number", "rank"), [(signal.SIGTERM, 1), (signal.SIGINT, None)])
    def test_a_signal_to_one_process_or_to_all_saves_and_ends_them(
        self, number: signal.Signals, rank: int | None, phantom: Path, tmp_path: Path
    ) -> None:
        run = launch(*words(phantom, tmp_path / "run"), cwd=tmp_path)
        run.send(number, rank=rank, once=tmp_path / "run" / "checkpoints" / "last" / "state.json")
        assert run.ended(within_s=60) != 0
        assert "continues with --resume" in run.said
        assert 4 < self._steps(tmp_path / "run") < STEPS, "saved within an epoch, not only at its end"
        if rank is None:
            return
        codes = re.findall(r"exitcode *: (-?\d+)", run.said)
        assert codes[-1] == "75", "the first that ended"
        assert {*codes} <= {"75", str(-signal.SIGTERM)}
        assert "because process" in run.said

    def test_a_refusal_ends_both_and_is_said_once(self, alone: Path, phantom: Path, tmp_path: Path) -> None:
        run = launch(*words(phantom, alone), program=REAL, cwd=tmp_path)
        assert run.ended(within_s=120) != 0
        assert run.said.count("--resume continues it, --overwrite starts it again") == 1
        assert set(re.findall(r"exitcode *: (-?\d+)", run.said)) <= {"2", "-15"}
        assert "Traceback" not in run.said.split("torch/distributed/elastic")[0]

    def test_in_float32_and_with_a_receipt_the_losses_are_the_same(self, phantom: Path, tmp_path: Path) -> None:
        plain = ("e02_frozen_probe", "train.epochs=2", "train.batch=7", "train.warmup=0.5", "compute.threads=1")
        without = ("head.dropout=0.0", "pooling.dropout=0.0", "compute.train_subset=8")
        one, many = tmp_path / "one", tmp_path / "two"
        done = calot(*words(phantom, one, experiment=(*plain, *without)), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        asked = [word for word in words(phantom, many, experiment=(*plain, *without)) if word != "--no-receipt"]
        run = launch(*asked, program=REAL, cwd=tmp_path)
        must_end_well(run)
        losses = [pl.read_csv(folder / "metrics.csv").select(pl.col("^.*loss$")).to_numpy() for folder in (one, many)]
        assert np.abs(losses[0] - losses[1]).max() < 1e-4
        checks = {c["name"]: c["status"] for c in self._json(many / "receipt.json")["checks"]}
        assert "failed" not in checks.values()
        assert checks["observed"] == "passed"
        assert self._json(many / "environment.json")["processes"] == 2

    def _json(self, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def _steps(self, run: Path) -> int:
        """The optimiser steps of a checkpoint, over all stages."""
        progress = self._json(run / "checkpoints" / "last" / "state.json")["progress"]
        return int(progress["step"] + sum({row["stage"]: row["step"] for row in progress["rows"]}.values()))
