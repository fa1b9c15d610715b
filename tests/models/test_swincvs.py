"""SwinCVS: its forward pass against a plain one, its windows, its losses on paper, what learns from which of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from endoscapes_folder import ALL, NO, Folder
from torch import Tensor, nn
from torch.nn import functional as F

from calot.data.clips import build_clips
from calot.data.endoscapes.reader import read_endoscapes
from calot.experiment import Experiment, scaled
from calot.experiments import find
from calot.models.classifier import Classifier
from calot.run.build import build_classifier
from calot.train.classification import ClassificationObjective
from calot.train.optim import Schedule
from calot.train.stage import Stage
from calot.types import Batch, Outputs, Tokens

E2E, FROZEN = (scaled(find(name).experiment, "tiny") for name in ("swincvs_e2e", "swincvs_frozen"))
WEIGHTS = (3.19852941, 4.46153846, 2.79518072)


def built(experiment: Experiment) -> Classifier:
    torch.manual_seed(0)
    return build_classifier(experiment)


def clips(count: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(1)
    video = torch.randint(0, 256, (count, 5, 3, 64, 64), dtype=torch.uint8, generator=generator)
    labels = (torch.rand(count, 3, generator=generator) > 0.5).float()
    return Batch(video=video, labels=labels, soft=labels, index=torch.arange(count))


class Plain(nn.Module):
    """SwinCVS from transformers' SwinV2 and torch's LSTM alone."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import Swinv2Config, Swinv2Model

        self.swin = Swinv2Model(
            Swinv2Config(
                image_size=64,
                patch_size=4,
                embed_dim=16,
                depths=[2, 2, 2, 2],
                num_heads=[1, 1, 2, 4],
                window_size=4,
                pretrained_window_sizes=[4, 4, 4, 2],
            )
        )
        self.lstm = nn.LSTM(128, 256, num_layers=2, batch_first=True)
        self.of_frame, self.of_clip = nn.Linear(128, 3), nn.Linear(256, 3)

    def forward(self, video: Tensor) -> tuple[Tensor, Tensor]:
        clips, frames = video.shape[:2]
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        pixels = (video.flatten(0, 1).double() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        vectors = self.swin(pixels).pooler_output.reshape(clips, frames, 128)
        steps, _ = self.lstm(vectors)
        return self.of_frame(vectors[:, -1]), self.of_clip(steps[:, -1])


def plain_with_the_weights_of(model: Classifier) -> Plain:
    plain = Plain().double().eval()
    plain.swin.load_state_dict(model.backbone.model.state_dict())
    plain.lstm.load_state_dict(model.pooling.lstm.state_dict())
    for linear, ours in ((plain.of_frame, "frame"), (plain.of_clip, "head")):
        linear.load_state_dict({k.removeprefix("0."): v for k, v in model.get_submodule(ours).state_dict().items()})
    return plain


@pytest.mark.parametrize("experiment", [E2E, FROZEN], ids=lambda e: e.name)
def test_its_scores_are_a_plain_references(experiment: Experiment) -> None:
    model, batch = built(experiment).double().eval(), clips()
    with torch.no_grad():
        scores = model(batch).scores
        of_frame, of_clip = plain_with_the_weights_of(model)(batch.video)
    torch.testing.assert_close(scores["head"], of_clip, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(scores["frame"], of_frame, rtol=1e-5, atol=1e-6)
    assert of_clip.std(dim=0).min() > 1e-6, "clips must differ, or this test is blind"


def test_the_frame_head_sees_the_last_frame_alone_and_the_lstm_all() -> None:
    model, batch = built(E2E).eval(), clips()
    first, last = batch.video.clone(), batch.video.clone()
    first[:, 0], last[:, -1] = 255 - first[:, 0], 255 - last[:, -1]
    with torch.no_grad():
        found = [model(replace(batch, video=video)).scores for video in (batch.video, first, last)]
    assert [torch.equal(found[0]["frame"], other["frame"]) for other in found[1:]] == [True, False]
    assert [torch.equal(found[0]["head"], other["head"]) for other in found[1:]] == [False, False]
    assert E2E.labelled_place == 4


def test_windows_are_five_contiguous_past_frames_padded_at_the_start(tmp_path: Path) -> None:
    one = Folder(root=tmp_path / "endoscapes")
    frames = list(range(1000, 1400, 25))
    manifest = read_endoscapes(
        one.video(1, split="train", frames=frames, votes={1050: NO, 1175: ALL, 1375: ALL}).write()
    )
    for experiment in (find("swincvs_e2e").experiment, E2E):
        table = build_clips(
            manifest,
            split="train",
            protocol=experiment.protocol,
            rule=experiment.clip,
            label_rule=experiment.label,
            training=True,
        )
        assert [table.clip(i).frames for i in range(3)] == [
            (1000, 1000, 1000, 1025, 1050),
            (1075, 1100, 1125, 1150, 1175),
            (1275, 1300, 1325, 1350, 1375),
        ]


def by_hand(logits: Tensor, labels: Tensor) -> float:
    total = 0.0
    for row, truth in zip(logits.tolist(), labels.tolist(), strict=True):
        for w, x, y in zip(WEIGHTS, row, truth, strict=True):
            p = 1 / (1 + math.exp(-x))
            total -= w * (y * math.log(p) + (1 - y) * math.log(1 - p))
    return total / logits.numel()


@pytest.mark.parametrize(("epoch", "alpha"), [(1, 0.8), (5, 0.8), (6, 0.76), (7, 0.72), (10, 0.6)])
def test_the_joint_loss_is_the_formula_on_paper(epoch: int, alpha: float) -> None:
    labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    batch = Batch(video=torch.zeros(2, 1, 3, 1, 1), labels=labels, soft=labels, index=torch.arange(2))
    frame, lstm = torch.tensor([[0.3, -1.0, 2.0], [0.5, 0.1, -0.7]]), torch.tensor([[-0.2, 0.4, 1.1], [1.5, -2.0, 0.9]])
    outputs = Outputs(scores={"frame": frame, "head": lstm}, tokens=Tokens(values=torch.zeros(2, 1, 1), grid=(1, 1, 1)))
    objective = ClassificationObjective(find("swincvs_e2e").experiment.loss)
    values = objective.values(outputs, batch, epoch=epoch - 1).values()
    total = sum(v.weight * float(v.mean) for v in values)
    assert total == pytest.approx(alpha * by_hand(frame, labels) + (1 - alpha) * by_hand(lstm, labels), rel=1e-6)
    both = objective.weights(epoch=epoch - 1)
    assert both == {"frame": pytest.approx(alpha), "criteria": pytest.approx(1 - alpha)}


def gradients(model: Classifier, term: str, experiment: Experiment) -> set[str]:
    """The parts that one term's gradient reaches."""
    model.zero_grad(set_to_none=True)
    (loss,) = (t.loss for t in experiment.loss.every_term() if t.name == term)
    batch = clips()
    loss(model.train()(batch), batch).backward()
    return {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        (E2E, {"frame": {"backbone", "frame"}, "criteria": {"backbone", "pooling", "head"}}),
        (FROZEN, {"frame": {"backbone", "frame"}, "criteria": {"pooling", "head"}}),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_each_term_reaches_what_the_objective_says(experiment: Experiment, expected: dict[str, set[str]]) -> None:
    model = built(experiment)
    experiment.train.adaptation.apply(model.backbone)
    reached = experiment.objective.build(model=model, loss=experiment.loss).reaches
    assert {name: set(parts) for name, parts in reached.items()} == expected
    assert {name: gradients(model, name, experiment) for name in reached} == expected


def test_the_second_stage_trains_all_but_the_backbone() -> None:
    model = built(FROZEN)
    first, second = FROZEN.stages
    first.adaptation.apply(model.backbone)
    assert model.backbone_trains
    second.adaptation.apply(model.backbone)
    assert not model.backbone_trains
    assert gradients(model, "criteria", FROZEN) == {"pooling", "head"}


@pytest.mark.parametrize("name", ["swincvs_frozen", "swincvs_e2e"])
def test_rates_are_constant_and_the_frame_head_has_the_encoders(name: str, trainer_of: Callable[[str], Any]) -> None:
    trainer = trainer_of(name)
    stage: Stage = trainer.request.experiment.train
    rates = {g.name: g.lr for g in trainer.groups(stage)}
    assert rates == {"backbone": 1e-5, "frame": 1e-5, "pooling": 1e-3, "head": 1e-3}
    full = find(name).experiment.train
    schedule = Schedule(warmup_steps=int(full.warmup), total_steps=50, floor=full.min_lr)
    for peak in (1e-5, 1e-3):
        assert {schedule.lr(peak=peak, step=s) for s in range(50)} == {peak}
    assert (full.weight_decay, full.batch, full.epochs, full.warmup) == (0.02, 4, 10, 0.0)


@pytest.fixture
def trainer_of(phantom: Path, tmp_path: Path) -> Callable[[str], Any]:
    from run_requests import requested

    from calot.progress import Ui
    from calot.run.data import OpenData
    from calot.run.signals import Stopper
    from calot.run.trainer import Trainer

    def opened(name: str) -> Trainer:
        asked = requested(phantom, tmp_path, name, changes=("train.batch=4", "train.warmup=0.0"))
        data = OpenData.of(asked.data, experiment=asked.experiment, ui=Ui())
        return Trainer.start(asked, data=data, ui=Ui(), stopper=Stopper())

    return opened


def test_weights_of_criteria_weigh_both_labels() -> None:
    assert F.softplus(torch.tensor(0.0)).item() == pytest.approx(math.log(2))
    labels = torch.tensor([[1.0, 0.0, 1.0]])
    batch = Batch(video=torch.zeros(1, 1, 3, 1, 1), labels=labels, soft=labels, index=torch.arange(1))
    tokens = Tokens(values=torch.zeros(1, 1, 1), grid=(1, 1, 1))
    loss = find("swincvs_e2e").experiment.loss.every_term()[1].loss
    found = loss(Outputs(scores={"head": torch.zeros(1, 3)}, tokens=tokens), batch)
    assert float(found) == pytest.approx(math.log(2) * sum(WEIGHTS) / 3)
