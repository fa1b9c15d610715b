"""Stages: each has settings of its own, begins as the best of the one before, and may be left and resumed anywhere."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_requests import digests, requested, trained
from safetensors.torch import load_file
from torch import Tensor, nn

from calot import pipeline
from calot.errors import Stopped
from calot.evaluation.passes import Passes
from calot.models.adaptation import LoRA
from calot.pipeline import load_run
from calot.run import folder as run_folder
from calot.run import trainer
from calot.run.request import Request
from calot.run.signals import Stopper
from calot.train.checkpoint import Checkpoints, model_tensors
from calot.train.classification import ClassificationObjective
from calot.train.loop import Fit
from calot.train.objective import EpochScores
from calot.train.progress import Progress
from calot.train.stage import Stage

SECOND = Stage(
    adaptation=LoRA(rank=4, targets=("q", "v"), lr=2e-3),
    epochs=2,
    lr=1e-4,
    weight_decay=0.02,
    warmup=0.0,
    min_lr=1e-7,
    batch=12,
    patience=1,
)


def _request(phantom: Path, folder: Path) -> Request:
    """A frozen stage of two epochs, then adapters for two at most."""
    request = requested(phantom, folder, "e02_frozen_probe", changes=("backbone.weights=None",))  # kept in checkpoints
    return replace(request, experiment=replace(request.experiment, then=(SECOND,)))


def _left(folder: Path) -> dict[str, Any]:
    """All that must be equal, byte for byte, and what the run remembers of its stages' starts."""
    state = json.loads((folder / "checkpoints" / "last" / "state.json").read_text())["progress"]
    return {**digests(folder), "starts": state["starts"], "rows": state["rows"]}


@pytest.fixture(scope="module")
def whole(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(_request(phantom, tmp_path_factory.mktemp("stages") / "run"))


class AtStep(Stopper):
    """Asks for an end at one step: (stage, epoch, steps made in it, steps left in it)."""

    def __init__(self, place: tuple[int, int, int | None, int | None]) -> None:
        super().__init__()
        self.place, self.now = place, (0, 0, 0, 0)

    def hear(self, reporter: run_folder.Reporter, progress: Progress, loss: float) -> None:
        self.now = (progress.stage, progress.epoch, progress.batch, reporter.steps - progress.batch)

    def asked(self) -> bool:
        return all(wanted in (None, now) for wanted, now in zip(self.place, self.now, strict=True))


@pytest.mark.long
@pytest.mark.parametrize(
    "place", [(0, 1, None, 0), (1, 0, 1, None)], ids=["last step of stage 1", "first step of stage 2"]
)
def test_a_run_stopped_at_a_step_beside_the_border_ends_in_the_same_bytes(
    place: tuple[int, int, int | None, int | None], whole: Path, phantom: Path, tmp_path: Path
) -> None:
    request, stopper = _request(phantom, tmp_path / "run"), AtStep(place)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_folder.Reporter, "__call__", lambda *heard: stopper.hear(*heard))
        with pytest.raises(Stopped):
            trained(request, stopper)
    state = json.loads((tmp_path / "run" / "checkpoints" / "last" / "state.json").read_text())["progress"]
    assert (state["stage"], state["epoch"]) == place[:2]
    assert state["batch"] == place[2] or (place[2] is None and state["batch"] > 1)
    assert _left(trained(replace(request, resume=True))) == _left(whole)


class Killed(BaseException):
    """Stands for a process that ends at once."""


def _at_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    real = trainer.fit_stage

    def fit_stage(fit: Fit, progress: Progress) -> None:
        if progress.stage == 1:
            raise Killed
        real(fit, progress)

    monkeypatch.setattr(trainer, "fit_stage", fit_stage)


def _before_the_border_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Checkpoints.save_last

    def save_last(self: Checkpoints, *, progress: dict[str, Any], **what: Any) -> None:
        if progress["stage"] == 1:
            raise Killed
        real(self, progress=progress, **what)

    monkeypatch.setattr(Checkpoints, "save_last", save_last)


def _between_the_best_and_the_last_of_stage_two(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Checkpoints.save_last

    def save_last(self: Checkpoints, *, progress: dict[str, Any], **what: Any) -> None:
        if progress["stage"] == 1 and progress["epoch"] == 1:
            raise Killed
        real(self, progress=progress, **what)

    monkeypatch.setattr(Checkpoints, "save_last", save_last)


@pytest.mark.long
@pytest.mark.parametrize(
    "kill", [_at_the_border, _before_the_border_is_saved, _between_the_best_and_the_last_of_stage_two]
)
def test_a_run_killed_at_the_border_ends_in_the_same_bytes_and_still_knows_where_it_began(
    kill: Callable[[pytest.MonkeyPatch], None], whole: Path, phantom: Path, tmp_path: Path
) -> None:
    request = _request(phantom, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patched:
        kill(patched)
        with pytest.raises(Killed):
            trained(request)
    assert _left(trained(replace(request, resume=True))) == _left(whole)
    assert _left(whole)["starts"] == [{"stage": 2, "best epoch before": _best_of_the_first(whole), "apart": []}]


def _best_of_the_first(folder: Path) -> int:
    """The first stage's best epoch, as metrics.csv counts."""
    rows = [r for r in _left(folder)["rows"] if r["stage"] == 1]
    best: int = max(rows, key=lambda r: r["val_map"])["epoch"]
    return best


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {n: t.clone() for n, t in model_tensors(model, published=False).items()}


def test_a_stage_begins_as_the_best_of_the_one_before_and_not_as_its_last(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores that fall from epoch to epoch make the first epoch the best; stage 2 must begin there."""
    seen: dict[str, dict[str, Tensor]] = {}

    def evaluate(self: ClassificationObjective, model: nn.Module, passes: Passes, *, epoch: int) -> EpochScores:
        seen.setdefault(f"0 {epoch}", _tensors(model))  # stage 1 comes by each epoch first
        return EpochScores(0.5 - 0.1 * epoch, {})

    real = trainer.fit_stage

    def fit_stage(fit: Fit, progress: Progress) -> None:
        if progress.stage == 1:
            seen["start"] = _tensors(fit.model)
        real(fit, progress)

    monkeypatch.setattr(ClassificationObjective, "evaluate", evaluate)
    monkeypatch.setattr(trainer, "fit_stage", fit_stage)
    trained(_request(phantom, tmp_path / "run"))
    start, best, last = seen["start"], seen["0 0"], seen["0 1"]
    assert all(torch.equal(start[n], best[n]) for n in best)
    assert any(not torch.equal(start[n], last[n]) for n in last)


def test_each_stage_has_its_own_optimiser_batch_schedule_and_patience(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[Fit] = []
    sizes: list[int] = []
    real = trainer.fit_stage

    def fit_stage(fit: Fit, progress: Progress) -> None:
        fits.append(fit)
        sizes.append(len(next(fit.data.batches(epoch=0, start=0))))
        assert not fit.optimiser.state_dict()["state"], "a stage's moments are its own"
        real(fit, progress)

    monkeypatch.setattr(trainer, "fit_stage", fit_stage)
    monkeypatch.setattr(ClassificationObjective, "evaluate", lambda *_, epoch: EpochScores(0.5 - 0.1 * epoch, {}))
    request = _request(phantom, tmp_path / "run")
    longer = replace(SECOND, epochs=9)
    folder = trained(replace(request, experiment=replace(request.experiment, then=(longer,))))
    rates = [{g["name"]: g["peak_lr"] for g in f.optimiser.param_groups} for f in fits]
    assert rates == [{"pooling": 5e-4, "head": 5e-4}, {"lora": 2e-3, "pooling": 1e-4, "head": 1e-4}]
    assert [{g["weight_decay"] for g in f.optimiser.param_groups} for f in fits] == [{0.1}, {0.02}]
    assert sizes == [8, 12]
    assert [f.schedule.floor for f in fits] == [1e-6, 1e-7]
    rows = _left(folder)["rows"]
    assert [(r["stage"], r["epoch"]) for r in rows] == [(1, 1), (1, 2), (2, 1), (2, 2)], "patience 1 ends stage 2"


def test_adapters_that_follow_a_frozen_stage_train_and_leave_the_encoder_bit_identical(
    whole: Path, phantom: Path
) -> None:
    request = _request(phantom, whole)
    torch.manual_seed(request.seed)
    before = trainer.build_classifier(request.experiment).state_dict()
    after = load_file(whole / "checkpoints" / "best" / "model.safetensors")
    encoder = {n for n in after if n.startswith("backbone.") and ".lora_" not in n}
    assert len(encoder) == sum(n.startswith("backbone.") for n in before)
    assert all(torch.equal(before[n], after[n]) for n in encoder)
    assert all(after[n].abs().max() > 0 for n in after if ".lora_B" in n)
    _, model, _ = load_run(whole)
    assert model.backbone.adapter == SECOND.adaptation


@pytest.mark.long
def test_what_was_drawn_before_training_does_not_reach_an_adapters_first_weights(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run resumed before its first checkpoint keeps its receipt and so draws less than it did at first."""
    changes = ("train.epochs=1", "train.batch=16")
    plain = requested(phantom, tmp_path / "plain", "e10a_lora_r16", changes=changes)
    trained(plain)

    def draw(request: Request, **how: object) -> None:
        torch.rand(7)

    monkeypatch.setattr(pipeline, "opening_receipt", draw)
    trained(replace(plain, folder=tmp_path / "drawn", receipt=True))
    assert digests(tmp_path / "drawn") == digests(tmp_path / "plain")


def test_resuming_a_complete_run_leaves_its_adapter_as_it_was(whole: Path, phantom: Path) -> None:
    before = (whole / "adapter" / "adapter_model.safetensors").read_bytes()
    trained(replace(_request(phantom, whole), resume=True))
    assert (whole / "adapter" / "adapter_model.safetensors").read_bytes() == before
    assert load_file(whole / "adapter" / "adapter_model.safetensors").keys()
