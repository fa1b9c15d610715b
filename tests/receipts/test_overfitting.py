"""Clips that cannot be told apart: the refusal names them, and not the experiment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calot.data.dataset import ClipDataset
from calot.experiment import scaled
from calot.experiments import find
from calot.progress import Ui
from calot.provenance.evidence import LookAlike, Overfit
from calot.receipts import overfitting
from calot.receipts.overfitting import left_to_chance, look_alikes, overfit, reachable, why_not_learnt
from calot.receipts.probe import every_clip, probe_data, trainer_for
from calot.receipts.sanity import unregularised
from calot.run.request import Request
from calot.run.trainer import Trainer
from calot.types import Batch


@pytest.fixture
def opened(phantom: Path, tmp_path: Path) -> tuple[Trainer, Batch]:
    found = find("e02_frozen_probe")
    experiment = unregularised(scaled(found.experiment, "tiny"))
    request = Request(found=found, experiment=experiment, scale="tiny", data=phantom, folder=tmp_path, seed=0)
    with probe_data(phantom, experiment=experiment, ui=Ui()) as data:
        trainer = trainer_for(experiment, request=request, data=data)
        return trainer, trainer.train_set[every_clip(trainer.train_set)]


def _twice(batch: Batch, *, noise: int) -> Batch:
    """The same picture in all clips, but for some grey levels here and there."""
    generator = torch.Generator().manual_seed(0)
    one = batch.video[:1].int().clamp(8, 247)
    moved = torch.randint(-noise, noise + 1, batch.video.shape, generator=generator)
    return replace(batch, video=(one + moved).to(torch.uint8))


def test_distinct_clips_are_no_look_alikes_and_can_be_learnt(opened: tuple[Trainer, Batch]) -> None:
    trainer, batch = opened
    assert look_alikes(trainer.train_set, batch) == ()
    assert reachable(trainer, batch) == 1.0


def test_copies_of_one_picture_with_other_labels_are_named_and_no_fit_reaches_them(
    opened: tuple[Trainer, Batch],
) -> None:
    trainer, batch = opened
    same = _twice(batch, noise=0)
    pairs = look_alikes(trainer.train_set, same)
    labels = batch.labels.numpy() >= 0.5
    different = sum(not np.array_equal(a, b) for i, a in enumerate(labels) for b in labels[:i])
    assert len(pairs) == different > 0
    assert pairs[0].apart == 0.0
    assert reachable(trainer, same) < 0.99
    near = look_alikes(trainer.train_set, _twice(batch, noise=2))
    assert len(near) == different
    assert 0 < near[0].apart < 0.01
    table = trainer.train_set.table
    names = {f"{v}_{f}" for v, f in zip(table.videos, table.frame_numbers, strict=True)}
    assert {p.one for p in near} | {p.other for p in near} <= names


def test_equal_labels_make_no_pair(opened: tuple[Trainer, Batch]) -> None:
    trainer, batch = opened
    same = replace(_twice(batch, noise=0), labels=torch.ones_like(batch.labels))
    assert look_alikes(trainer.train_set, same) == ()


class Noisy(nn.Module):
    """Draws whatever its component's fields say."""

    def __init__(self, inner: nn.Module, *, rate: float) -> None:
        super().__init__()
        self.inner, self.rate = inner, rate

    def forward(self, *given: object) -> Tensor:
        return F.dropout(self.inner(*given), self.rate, training=self.training)


@pytest.mark.parametrize("part", ["pooling", "head"])
def test_a_part_that_still_draws_with_its_regularisers_off_is_named(opened: tuple[Trainer, Batch], part: str) -> None:
    trainer, batch = opened
    assert left_to_chance(trainer.model, batch) == ()
    setattr(trainer.model, part, Noisy(trainer.model.get_submodule(part), rate=0.3))
    assert left_to_chance(trainer.model, batch) == (part,)


def test_a_backbone_that_draws_is_named_alone(phantom: Path, tmp_path: Path) -> None:
    """Its attention's dropout is in no field of its spec; the parts after it differ because of it."""
    found = find("e00_finetune")
    experiment = unregularised(scaled(found.experiment, "tiny"))
    request = Request(found=found, experiment=experiment, scale="tiny", data=phantom, folder=tmp_path, seed=0)
    with probe_data(phantom, experiment=experiment, ui=Ui()) as data:
        trainer = trainer_for(experiment, request=request, data=data)
        trainer.groups(experiment.train)
        batch = trainer.train_set[every_clip(trainer.train_set)]
        assert left_to_chance(trainer.model, batch) == ()
        layer = trainer.model.backbone.layers[0]
        layer.register_forward_hook(lambda module, given, out: _dropped(out, training=module.training))
        assert left_to_chance(trainer.model, batch) == ("backbone",)


def _dropped(out: Tensor | tuple[Tensor, ...], *, training: bool) -> Tensor | tuple[Tensor, ...]:
    first = F.dropout(out[0] if isinstance(out, tuple) else out, 0.2, training=training)
    return (first, *out[1:]) if isinstance(out, tuple) else first


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"map": 1.0}, ""),
        ({"map": 1.0, "by_chance": ("head",)}, "head still draws at random while it trains"),
        ({"map": 0.7}, "the cause is in the experiment's own parts"),
        ({"map": 0.7, "reachable": 0.6}, "the backbone tells these clips apart as little"),
        (
            {"map": 0.7, "look_alike": (LookAlike(one="4_250", other="4_375", apart=0.004),)},
            "The likely cause is in the data: 4_250 and 4_375 look alike (0.4 % of the grey levels apart) and have "
            "other labels",
        ),
    ],
)
def test_the_reason_names_the_likely_cause(found: dict[str, float], words: str) -> None:
    given = {"clips": 8, "steps": 150, "lr": 0.02, "reachable": 1.0, **found}
    said = why_not_learnt(Overfit(**given))  # type: ignore[arg-type]
    assert words in said
    assert bool(said) == bool(words)


def test_a_data_set_of_one_picture_is_refused_for_its_frames(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ClipDataset.__getitem__
    monkeypatch.setattr(ClipDataset, "__getitem__", lambda self, request: _twice(real(self, request), noise=1))
    monkeypatch.setattr(overfitting, "_RATES", (2e-3,))
    monkeypatch.setattr(overfitting, "_STEPS", 20)
    found = find("e02_frozen_probe")
    experiment = unregularised(scaled(found.experiment, "tiny"))
    request = Request(found=found, experiment=experiment, scale="tiny", data=phantom, folder=tmp_path, seed=0)
    with probe_data(phantom, experiment=experiment, ui=Ui()) as data:
        said = why_not_learnt(overfit(request, data=data))
    assert "The likely cause is in the data" in said
