"""Pitfalls of training and resuming that were met elsewhere, each with a test of its name."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_requests import StopAfter, requested, trained, trainer
from torch import nn

from calot.cli.main import main
from calot.data.dataset import EpochIndices
from calot.errors import CalotError, Stopped
from calot.experiments import find, names
from calot.pipeline import predict_run
from calot.progress import Ui
from calot.run.build import build_classifier
from calot.run.keeping import StageKeeper
from calot.statistics.predictions import load_predictions
from calot.train import checkpoint
from calot.train.loop import fit_stage, optimise
from calot.train.optim import Schedule


def test_pitfall_non_finite_loss_skipped_in_silence(phantom: Path, tmp_path: Path) -> None:
    """One NaN in the weights after the first epoch: the run ends, names the place, and its checkpoint is whole."""
    run = trainer(phantom, tmp_path)
    stage = run.request.experiment.train
    fit = run.fit(stage)

    class Poisoning(StageKeeper):
        def save(self, *, best: bool) -> None:
            super().save(best=best)
            with torch.no_grad():
                next(iter(run.model.head.parameters())).fill_(math.nan)

    with pytest.raises(CalotError, match=r"non-finite loss .*stage 1, epoch 2, batch 1; clips \[\d"):
        fit_stage(replace(fit, keeper=Poisoning(**vars(fit.keeper))), run.progress)
    found = run.checkpoints.resume()
    assert found is not None
    assert (found.progress["epoch"], found.progress["batch"]) == (1, 0)
    assert all(torch.isfinite(t).all() for t in found.tensors.values())


def test_pitfall_gradient_accumulation_remainder_dropped_or_carried_over(phantom: Path, tmp_path: Path) -> None:
    """7 clips in micro-batches of 3, 3 and 1: the gradient of the step is that of the 7 in one piece, and none is left
    for the next step."""
    gradients = []
    for micro in (None, 3):
        run = trainer(phantom, tmp_path, f"compute.micro_batch={micro}")
        fit = run.fit(run.request.experiment.train)
        seen: list[torch.Tensor] = []
        fit.optimiser.optimizer.register_step_pre_hook(
            lambda o, *rest, seen=seen: seen.extend(p.grad.clone() for g in o.param_groups for p in g["params"])
        )
        batch = run.train_set[EpochIndices(epoch=0, indices=tuple(range(7)))]
        optimise(fit, batch, progress=run.progress)
        assert all(p.grad is None for p in run.model.parameters())
        gradients.append(seen)
    assert len(gradients[0]) > 10
    for whole, parts in zip(*gradients, strict=True):
        assert torch.allclose(whole, parts, rtol=1e-3, atol=1e-6)


def test_pitfall_scheduler_stepping_past_its_end(phantom: Path, tmp_path: Path) -> None:
    """The last step of a run has the floor rate; as many rates are asked for as steps are made."""
    run = trainer(phantom, tmp_path, "train.min_lr=1e-6")
    stage = run.request.experiment.train
    asked: list[int] = []

    class Watched(Schedule):
        def apply(self, optimiser: torch.optim.Optimizer, *, step: int) -> None:
            asked.append(step)
            super().apply(optimiser, step=step)

    fit = run.fit(stage)
    fit_stage(replace(fit, schedule=Watched(**vars(fit.schedule))), run.progress)
    assert asked == list(range(fit.schedule.total_steps))
    assert {g["lr"] for g in fit.optimiser.param_groups} == {1e-6}
    assert fit.schedule.lr(peak=1e-3, step=10 * fit.schedule.total_steps) == 1e-6


def test_pitfall_scheduler_stepping_on_skipped_steps(phantom: Path, tmp_path: Path) -> None:
    """A step that fp16's loss scaler skips is no step of the schedule."""
    run = trainer(phantom, tmp_path)
    stage = run.request.experiment.train
    fit = run.fit(stage)
    fit.optimiser._is_overflow = True  # what accelerate sets where the scaler found an overflow
    fit.optimiser.step = lambda: None
    fit.accelerator._optimizers = [fit.optimiser]
    optimise(fit, run.train_set[EpochIndices(epoch=0, indices=(0, 1))], progress=run.progress)
    assert run.progress.step == 0


def test_pitfall_a_resume_flag_that_does_nothing(phantom: Path, tmp_path: Path) -> None:
    """A resumed run makes only the steps that were left, and says where it goes on."""
    asked = requested(phantom, tmp_path / "run")
    with pytest.raises(Stopped):
        trained(asked, StopAfter(3))
    left = checkpoint.load(asked.folder / "checkpoints" / "last").progress
    assert left["step"] > 0
    trained(replace(asked, resume=True))
    log = (asked.folder / "train.log").read_text()
    assert f"resuming at stage 1, epoch {left['epoch'] + 1}, step {left['batch'] + 1}" in log
    rows = list(csv.DictReader((asked.folder / "metrics.csv").open()))
    total = checkpoint.load(asked.folder / "checkpoints" / "best").progress
    assert int(rows[-1]["step"]) >= total["step"] > left["step"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--resume",), "--resume needs --out"),
        (("--resume", "--overwrite", "--out", "x"), "give one of them"),
    ],
)
def test_a_resume_flag_without_a_run_to_resume_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr("sys.argv", ["calot", "train", "e02_frozen_probe", "--data", ".", "--scale", "tiny", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code, message in capsys.readouterr().err) == (2, True)


def test_train_clean_scores_come_from_clips_as_they_are_stored(phantom: Path, tmp_path: Path) -> None:
    """`train_clean_*` come from clips as stored, with the raters' majority: no augmentation is anywhere near."""
    run = trainer(phantom, tmp_path)
    assert run.request.experiment.augment
    batch = run.clean_set[EpochIndices(epoch=1, indices=(0, 1))]
    stored = torch.from_numpy(run.clean_set.store.read(run.clean_set.table.frames[:2]))
    assert torch.equal(batch.video, stored)
    assert (run.clean_set.table.labels == run.clean_set.table.majority).all()


def test_pitfall_predictions_stored_after_a_saturating_sigmoid(phantom: Path, tmp_path: Path) -> None:
    """A logit of about 40 is stored as it is; as a float32 probability it would be 1, like any other above 17."""
    folder = trained(requested(phantom, tmp_path / "run", "e02_frozen_probe", changes=("train.epochs=1",)))
    best = folder / "checkpoints" / "best"
    found = checkpoint.load(best)
    bias = [k for k in found.tensors if k.startswith("head.") and k.endswith("bias")][-1]
    found.tensors[bias] += 40.0
    checkpoint.save(best, tensors=found.tensors, optimiser=None, progress=found.progress)
    out = tmp_path / "shifted.parquet"
    predict_run(folder, split="val", data=phantom, ui=Ui(), out=out)
    before = load_predictions(folder / "predictions" / "val.parquet").logits
    assert load_predictions(out).logits == pytest.approx(before + 40.0, abs=1e-4)


@pytest.mark.parametrize("name", names())
def test_pitfall_batchnorm_statistics_from_batches_of_one(name: str) -> None:
    """No model of ours has a BatchNorm, whose statistics a micro-batch of one would spoil."""
    with torch.device("meta"):
        model = build_classifier(find(name).experiment, weights=False)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
