"""Pretraining without labels, and distillation, in files of a user's own: the loop is the one that all runs take."""

import csv
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from plain_table import frames_folder, without_labels
from run_requests import QUICK, StopAfter, requested, step_of, trained, trainer, without_chance
from safetensors.torch import load_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from calot.config.overrides import apply_overrides
from calot.errors import CalotError, Stopped
from calot.experiment import scaled
from calot.experiments import find
from calot.pipeline import load_run
from calot.run.request import Request
from calot.train.classification import ClassificationObjective
from calot.train.loop import optimise
from calot.train.objective import TermValue, own_tensors
from calot.train.progress import Progress
from calot.types import Batch

HERE = Path(__file__).parent / "objectives"


def asked(file: Path, data: Path, folder: Path, *changes: str) -> Request:
    """A quick run of an experiment in a file of its own."""
    found = find(str(file))
    experiment = apply_overrides(scaled(found.experiment, "tiny"), [*QUICK, *changes])
    return Request(found=found, experiment=experiment, scale="tiny", data=data, folder=folder, seed=0, receipt=False)


def bytes_of(folder: Path) -> dict[str, str]:
    """What must not depend on where a run was stopped."""
    names = ["metrics.csv", *(f"checkpoints/{kind}/model.safetensors" for kind in ("best", "last"))]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def stopped_and_resumed(request: Request, *, after: int) -> Path:
    with pytest.raises(Stopped):
        trained(request, stopper=StopAfter(after))
    return trained(replace(request, resume=True))


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain table of frames that nobody has judged."""
    return without_labels(frames_folder(tmp_path_factory.mktemp("unlabelled")))


@pytest.fixture(scope="module")
def pretrained(unlabelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    return trained(asked(HERE / "ema_teacher.py", unlabelled, folder))


def test_a_teacher_without_labels_trains(pretrained: Path) -> None:
    rows = list(csv.DictReader((pretrained / "metrics.csv").open()))
    assert [*rows[0]][-1] == "val_loss"
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert not (pretrained / "predictions").exists()


def test_the_teacher_is_a_moving_average_of_its_own_and_is_kept(pretrained: Path) -> None:
    tensors = load_file(pretrained / "checkpoints" / "last" / "model.safetensors")
    own = own_tensors(tensors)
    assert {name.removeprefix("teacher.") for name in own} == tensors.keys() - {f"objective.{name}" for name in own}
    apart = [n for n in own if not torch.equal(own[n], tensors[n.removeprefix("teacher.")])]
    assert any(n.startswith("teacher.backbone.") for n in apart)


@pytest.mark.long
@pytest.mark.parametrize("after", [1, 4])
def test_a_stopped_teacher_ends_as_one_that_was_not(
    pretrained: Path, unlabelled: Path, tmp_path: Path, after: int
) -> None:
    request = asked(HERE / "ema_teacher.py", unlabelled, tmp_path / "run")
    assert bytes_of(stopped_and_resumed(request, after=after)) == bytes_of(pretrained)


def test_the_model_of_such_a_run_is_read_back_without_the_teacher(pretrained: Path) -> None:
    _, model, _ = load_run(pretrained)
    tensors = load_file(pretrained / "checkpoints" / "best" / "model.safetensors")
    assert all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())


@pytest.fixture
def student(phantom: Path, tmp_path: Path) -> Request:
    trained(requested(phantom, tmp_path / "teacher", "e02_frozen_probe"))
    shutil.copy(HERE / "distilled.py", tmp_path)
    return asked(tmp_path / "distilled.py", phantom, tmp_path / "run")


@pytest.mark.long
def test_a_student_learns_from_a_run_and_is_resumed_exactly(student: Request) -> None:
    whole = trained(student)
    rows = list(csv.DictReader((whole / "metrics.csv").open()))
    assert float(rows[-1]["train_teacher"]) < float(rows[0]["train_teacher"])
    assert (whole / "predictions" / "val.parquet").is_file()
    halves = stopped_and_resumed(replace(student, folder=student.folder.with_name("halves")), after=3)
    assert bytes_of(halves) == bytes_of(whole)


class TwoViews(ClassificationObjective):
    """The criteria from the clip and from a closer view of it that the batch carries."""

    def terms(self, *, epoch: int) -> tuple[str, ...]:
        return ("whole", "detail")

    def units(self, batch: Batch, *, epoch: int) -> dict[str, float]:
        return dict.fromkeys(self.terms(epoch=epoch), float(len(batch)))

    def step(self, model: nn.Module, batch: Batch, *, epoch: int) -> dict[str, TermValue]:
        both = {"whole": batch, "detail": replace(batch, video=batch.views["detail"])}
        return {k: TermValue(self.loss(model(v), v), units=float(len(v)), weight=0.5) for k, v in both.items()}


def test_a_batch_of_two_views_trains_and_may_be_cut_anywhere(phantom: Path, tmp_path: Path) -> None:
    run = without_chance(trainer(phantom, tmp_path / "run"))
    run.objective = TwoViews(run.objective.loss)  # type: ignore[attr-defined]
    batch = next(run.batches(run.request.experiment.train, epoch=0, start=0))
    detail = batch.video.roll(9, dims=-1)
    batch = replace(batch, views={"detail": detail}, labels=batch.labels.double())
    whole = step_of(run, batch, micro_batch=None)
    assert whole.terms.keys() == {"whole", "detail"}
    assert step_of(run, batch, micro_batch=3).distance(whole) < 1e-12
    assert step_of(run, replace(batch, views={"detail": batch.video}), micro_batch=None).distance(whole) > 1e-6


class Counting(nn.Module):
    """A wrapper that says how often it was called."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.calls = module, 0

    def forward(self, batch: Batch) -> object:
        self.calls += 1
        return self.module(batch)


@pytest.mark.long
def test_a_wrapper_sees_every_call_of_a_run_and_changes_nothing(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = trained(requested(phantom, tmp_path / "plain", "e10a_lora_r16"))
    wrappers: list[Counting] = []

    def prepare_model(self: object, model: nn.Module) -> nn.Module:
        wrappers.append(Counting(model))
        return wrappers[-1]

    monkeypatch.setattr("accelerate.Accelerator.prepare_model", prepare_model)
    wrapped = trained(requested(phantom, tmp_path / "wrapped", "e10a_lora_r16"))
    assert bytes_of(wrapped) == bytes_of(plain)
    assert sum(w.calls for w in wrappers) > 4


@pytest.fixture
def one_process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=(tmp_path / "group").as_uri(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process_group")
def test_a_step_under_ddp_is_the_step_without(phantom: Path, tmp_path: Path) -> None:
    steps = []
    for wrapped in (False, True):
        run = trainer(phantom, tmp_path / f"run{wrapped}", name="e10a_lora_r16")
        stage = run.request.experiment.train
        fit = run.fit(stage)
        if wrapped:
            fit = replace(fit, called=DistributedDataParallel(run.model))
        fit.called.train()
        torch.manual_seed(0)
        batch = next(run.batches(stage, epoch=0, start=0))
        optimise(fit, batch, progress=Progress(epoch=1))
        steps.append({n: p.detach().clone() for n, p in run.model.named_parameters() if p.requires_grad})
    assert steps[0].keys() == steps[1].keys()
    assert all(torch.equal(steps[0][name], steps[1][name]) for name in steps[0])


def test_several_processes_are_refused_before_anything_is_written(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        CalotError, match=r"WORLD_SIZE=2: .*only `train` and `pretrain` run in several processes.*unset WORLD_SIZE"
    ):
        trained(requested(phantom, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
