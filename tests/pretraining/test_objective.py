"""Is it V-JEPA 2's objective? Loss and step beside arithmetic written out, in float64, on models of seconds."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from plain_prediction import plain_loss
from run_requests import P01, SMALL_PRETRAINING, StopAfter, in_float64, requested, step_of, trained, trainer
from torch import Tensor

from calot.config.overrides import apply_overrides
from calot.errors import CalotError, FieldError, Stopped
from calot.experiment import scaled
from calot.experiments import find
from calot.models.backbones.predictor import tokens_at
from calot.models.backbones.swin import SwinPerFrame
from calot.pretraining.masks import LONG_RANGE, SHORT_RANGE
from calot.pretraining.objective import MaskedPrediction, MaskedPredictionObjective
from calot.run.build import build_classifier
from calot.run.trainer import Trainer
from calot.train.loop import optimise
from calot.train.objective import own_tensors
from calot.train.progress import Progress
from calot.types import Batch, Hidden

FAST = (
    "backbone.weights=None",
    "protocol=keyframes",
    "train.lr=1e-3",
    "train.adaptation.lr=1e-3",
    "train.epochs=4",
    "train.patience=4",
)


def opened(phantom: Path, folder: Path, *changes: str) -> Trainer:
    """A small run in float64, opened and not begun."""
    run = in_float64(trainer(phantom, folder, *SMALL_PRETRAINING, "protocol=keyframes", *changes, name=P01))
    objective_of(run).teacher.double()
    return run


def objective_of(run: Trainer) -> MaskedPredictionObjective:
    assert isinstance(run.objective, MaskedPredictionObjective)
    return run.objective


def a_batch(run: Trainer, clips: int = 3) -> Batch:
    run.progress = Progress()
    batch = next(run.batches(run.request.experiment.train, epoch=0, start=0))
    return batch.split(clips)[0]


def network_tensors(run: Trainer) -> dict[str, Tensor]:
    return dict(run.model.backbone.model.named_parameters())


def by_hand(run: Trainer, batch: Batch) -> dict[str, Tensor]:
    (view,) = run.model.backbone.spec.views
    spec = run.request.experiment.backbone
    return plain_loss(
        view.normalise(batch.video).double(),
        network_tensors(run),
        dict(objective_of(run).teacher.model.named_parameters()),
        {k: (h.context.tolist(), h.targets.tolist()) for k, h in batch.hidden.items()},
        heads=spec.heads,
        predictor_heads=spec.predictor.heads,
        side=spec.grid[1],
    )


def moved_teacher(run: Trainer) -> None:
    """A teacher that is not the encoder, so that taking one for the other shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in objective_of(run).teacher.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator, dtype=p.dtype))


@pytest.fixture(scope="module")
def small(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    run = opened(phantom, tmp_path_factory.mktemp("small") / "run")
    moved_teacher(run)
    return run


def test_the_loss_is_the_formula_written_out(small: Trainer) -> None:
    batch = a_batch(small)
    found = small.objective.step(small.model, batch, epoch=0)
    expected = by_hand(small, batch)
    assert found.keys() == expected.keys() == {"short", "long"}
    assert all(abs(float(found[k].mean.detach() - expected[k].detach())) < 1e-9 for k in expected)
    assert {v.weight for v in found.values()} == {0.5}


def test_one_step_is_the_recipes_arithmetic(phantom: Path, tmp_path: Path) -> None:
    """Gradient of the written-out loss with its targets held fixed, clipped; AdamW's first step; then the average."""
    run = opened(phantom, tmp_path / "run", "objective.momentum=0.9", "train.batch=2", "train.warmup=0")
    moved_teacher(run)
    fit = run.fit(run.request.experiment.train)
    batch = a_batch(run, clips=2)
    before = {n: p.detach().clone() for n, p in network_tensors(run).items()}
    teacher = {n: p.clone() for n, p in objective_of(run).teacher.model.named_parameters()}
    terms = by_hand(run, batch)
    tensors = network_tensors(run)
    gradients = torch.autograd.grad(0.5 * (terms["short"] + terms["long"]), list(tensors.values()))
    size = torch.stack([g.norm() for g in gradients]).norm()
    gradients = [g * min(1.0, 1.0 / (float(size) + 1e-6)) for g in gradients]
    fit.called.train()
    optimise(fit, batch, progress=Progress())
    rate, decay = fit.optimiser.param_groups[0]["lr"], fit.stage.weight_decay
    for (name, p), g in zip(tensors.items(), gradients, strict=True):
        spared = "bias" in name or len(p.shape) == 1  # by the official code's rule
        kept = before[name] * (1 if spared else 1 - rate * decay)
        expected = kept - rate * g / (g.abs() + 1e-8)  # the first step's moments are g and g squared
        sure = g.abs() > 1e-7  # elsewhere the sign of rounding decides
        assert (p - expected)[sure].abs().max() < 1e-9 if sure.any() else True, name
        if name in teacher:
            average = 0.9 * teacher[name] + 0.1 * p.detach()
            own = dict(objective_of(run).teacher.model.named_parameters())[name]
            assert (own - average).abs().max() < 1e-12, name
    assert teacher.keys() == {n for n in tensors if not n.startswith("fresh.")}


def test_the_teacher_gets_no_gradient_and_no_predictor(small: Trainer) -> None:
    values = small.objective.step(small.model, a_batch(small), epoch=0)
    sum(v.mean for v in values.values()).backward()
    teacher = objective_of(small).teacher
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not any("predictor" in name for name, _ in teacher.named_parameters())
    assert all(p.grad is not None for p in small.model.backbone.parameters())
    small.model.zero_grad()


def test_the_encoder_sees_the_context_alone(small: Trainer) -> None:
    batch = a_batch(small, clips=1)
    spec = small.model.backbone.spec
    kind = Hidden(batch.hidden["short"].context, batch.hidden["short"].targets)
    before = small.model.backbone.predict(batch.video, hidden={"short": kind}).values["short"]
    place = int(kind.targets[0, 0])
    for number, changes in ((place, False), (int(kind.context[0, 0]), True)):
        t, y, x = number // spec.grid[1] ** 2, number % spec.grid[1] ** 2 // spec.grid[1], number % spec.grid[1]
        video = batch.video.clone()
        video[:, 2 * t : 2 * t + 2, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] += 100
        after = small.model.backbone.predict(video, hidden={"short": kind}).values["short"]
        assert torch.equal(before, after) != changes


def test_an_encoder_shown_everything_is_the_plain_one(small: Trainer) -> None:
    batch = a_batch(small)
    count = torch.arange(small.model.backbone(batch.video).values.shape[1])
    every = count.expand(len(batch), -1)
    seen: list[Tensor] = []
    predictor = small.model.backbone.model.fresh["predictor"]
    handle = predictor.register_forward_pre_hook(lambda _m, given: seen.append(given[0]))
    small.model.backbone.predict(batch.video, hidden={"all": Hidden(every, every[:, :1])})
    some = torch.stack([count[3::2], count[2::2][: len(count[3::2])], count[3::2]])
    small.model.backbone.predict(batch.video, hidden={"some": Hidden(some, every[:, :1])})
    handle.remove()
    plain = small.model.backbone(batch.video).values
    assert (seen[0] - plain).abs().max() < 1e-12
    assert (tokens_at(seen[1], some) - tokens_at(plain, some)).abs().max() > 1e-6, "what is hidden takes no part"


def test_a_batch_is_cut_anywhere_with_the_same_masks_and_step(phantom: Path, tmp_path: Path) -> None:
    run = opened(phantom, tmp_path / "run", "objective.momentum=1")  # the teacher stays as it is between the steps
    batch = a_batch(run, clips=8)
    whole = step_of(run, batch, micro_batch=None)
    assert {"short", "long"} == whole.terms.keys()
    for cut in (1, 3):
        assert step_of(run, batch, micro_batch=cut).distance(whole) < 1e-12


def test_val_loss_does_not_depend_on_the_batch_of_a_pass(phantom: Path, tmp_path: Path) -> None:
    run = opened(phantom, tmp_path / "run")
    scores = [run.objective.evaluate(run.model, replace(run.passes, batch_size=size), epoch=0) for size in (3, 32)]
    assert scores[0].columns == pytest.approx(scores[1].columns, rel=1e-9)


@pytest.fixture(scope="module")
def pretrained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(requested(phantom, tmp_path_factory.mktemp("pretrained") / "run", P01, changes=FAST))


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").open()))


def test_the_loss_falls_and_nothing_collapses(pretrained: Path) -> None:
    rows = rows_of(pretrained)
    for column in ("train_loss", "val_loss", "val_short", "val_long"):
        assert float(rows[-1][column]) < 0.95 * float(rows[0][column]), column
    assert {row["collapsed"] for row in rows} == {"0.0"}
    assert float(rows[-1]["effective_rank"]) > 8
    assert not (pretrained / "predictions").exists()


def test_a_stopped_run_ends_as_one_that_was_not(phantom: Path, pretrained: Path, tmp_path: Path) -> None:
    request = requested(phantom, tmp_path / "run", P01, changes=FAST)
    with pytest.raises(Stopped):
        trained(request, stopper=StopAfter(7))
    trained(replace(request, resume=True))
    for name in ("metrics.csv", *(f"checkpoints/{kind}/model.safetensors" for kind in ("best", "last"))):
        one, other = (hashlib.sha256((f / name).read_bytes()).hexdigest() for f in (pretrained, tmp_path / "run"))
        assert one == other, name


def test_the_last_epoch_is_kept_or_the_one_of_the_lowest_loss(pretrained: Path, small: Trainer) -> None:
    best = json.loads((pretrained / "checkpoints" / "best" / "state.json").read_text())["progress"]
    assert (best["epoch"], best["best_score"]) == (4, 4.0)
    lowest = MaskedPrediction().build(model=small.model, loss=small.request.experiment.loss)
    scores = lowest.evaluate(small.model, small.passes, epoch=2)
    small.model.train()
    assert scores.value == scores.columns["val_loss"] != 3.0
    assert lowest.selection.better(0.4, than=0.5)
    assert small.objective.selection.better(2.0, than=1.0)


def test_the_teacher_is_kept_in_checkpoints(pretrained: Path) -> None:
    from safetensors.torch import load_file

    tensors = load_file(pretrained / "checkpoints" / "last" / "model.safetensors")
    own = own_tensors(tensors)
    assert int(own.pop("steps")) == int(rows_of(pretrained)[-1]["step"])
    names = {n.removeprefix("backbone.") for n in tensors if n.startswith("backbone.") and ".fresh." not in n}
    assert {n.removeprefix("teacher.") for n in own} == names


def test_without_a_teacher_the_collapse_is_named(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = [f"train.{name}=2e-3" for name in ("lr", "min_lr", "adaptation.lr")]
    planted = ("objective.momentum=0", "objective.stop_gradient=False", "protocol=keyframes", "train.epochs=4", *rates)
    folder = trained(requested(phantom, tmp_path / "run", P01, changes=planted))
    assert rows_of(folder)[-1]["collapsed"] == "1.0"
    said = "collapse: every token has nearly the same feature"
    assert said in capsys.readouterr().out + (folder / "train.log").read_text()


def test_momentum_is_constant_or_grows_evenly() -> None:
    assert MaskedPrediction().momentum_at(10**6) == 0.99925
    ramp = MaskedPrediction(first_momentum=0.9, momentum=1.0, ramp_steps=100)
    assert [ramp.momentum_at(n) for n in (0, 50, 100, 500)] == pytest.approx([0.9, 0.95, 1.0, 1.0])


def test_what_does_not_fit_is_refused_with_the_remedy() -> None:
    p01 = find(P01).experiment
    with pytest.raises(FieldError, match=r"has no predictor: set backbone\.predictor"):
        replace(p01, backbone=replace(p01.backbone, predictor=None))
    with pytest.raises(FieldError, match="has no predictor"):
        replace(p01, backbone=SwinPerFrame())
    with pytest.raises(FieldError, match=r"adaptation=Frozen: .* take FullFineTune"):
        apply_overrides(p01, ["train.adaptation=Frozen()"])
    with pytest.raises(FieldError, match=r"stop_gradient=False needs momentum=0"):
        MaskedPrediction(stop_gradient=False)
    with pytest.raises(FieldError, match=r"masks=\['short', 'short'\]"):
        MaskedPrediction(masks=(SHORT_RANGE, SHORT_RANGE))
    with pytest.raises(FieldError, match="predictor and windows"):
        apply_overrides(p01, ["backbone.windows=WindowAttention()"])
    tiny = scaled(p01, "tiny")
    whole = replace(tiny, objective=MaskedPrediction(masks=(replace(LONG_RANGE, spatial_scale=1.0),)))
    with pytest.raises(CalotError, match="covers the grid"):
        whole.objective.build(model=build_classifier(whole), loss=whole.loss)
