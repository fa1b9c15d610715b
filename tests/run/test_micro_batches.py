"""How an effective batch is cut into micro-batches cannot matter, for any shipped experiment, in any stage."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_requests import in_double, step_of, trainer, without_chance

from calot.data.dataset import EpochIndices
from calot.experiments import names
from calot.run.trainer import Trainer
from calot.types import IGNORED, Batch

CLIPS = 16


def _clips(run: Trainer) -> Batch:
    """16 training clips; where they have masks, every third loses its own."""
    batch = run.train_set[EpochIndices(epoch=0, indices=tuple(range(CLIPS)))]
    if (masks := batch.masks) is not None:
        assert masks.complete.sum() >= CLIPS // 2
        masks.values[::3], masks.weight[::3], masks.place[::3] = IGNORED, 0.0, run.request.experiment.labelled_place
    return batch


def _batches(run: Trainer) -> Iterator[Batch]:
    """The clips as the experiment prepares them; where it mixes, once by MixUp and once by CutMix."""
    experiment = run.request.experiment
    shares = [(1.0, 0.0), (0.0, 1.0)] if experiment.mixing else [(0.0, 0.0)]
    for mixup, cutmix in shares:
        mixing = experiment.mixing and replace(experiment.mixing, mixup_probability=mixup, cutmix_probability=cutmix)
        prepare = replace(experiment.preparation(seed=0), mixing=mixing)
        yield in_double(prepare(_clips(run), stage=0, epoch=1, start=0).batch)


#: One of each kind of term, head and adaptation; the others are alike but for numbers.
QUICK = ("clip5_majority", "e00_finetune", "e03_focal", "e08_multitask", "e11_attention_supervision", "e12_regularized")


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(n, marks=pytest.mark.long) for n in names() if n not in QUICK)]
)
def test_how_an_effective_batch_is_cut_cannot_matter(name: str, phantom: Path, tmp_path: Path) -> None:
    """1 x 16, 4 x 4 and 5 + 5 + 5 + 1: the same loss by term, gradient and step, in float64, with every term there."""
    windows = ["backbone.windows.size=2"] if name in ("frames5_window", "frames16_window") else []  # of 4 x 4 tokens
    size = 64 if name.startswith("swincvs") else 32  # at 32, SwinV2's last stage has one token, and no choice
    run = without_chance(trainer(phantom, tmp_path, f"backbone.size={size}", *windows, name=name))
    for parameter in run.model.backbone.fresh:  # behind a factor of zero nothing would train in the first step
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    loss = run.request.experiment.loss
    for batch in _batches(run):
        for stage in range(len(run.request.experiment.stages)):
            whole, even, uneven = (step_of(run, batch, micro_batch=cut, stage=stage) for cut in (None, 4, 5))
            assert list(whole.terms) == [term.name for term in loss.active(epoch=1)]
            assert whole.gradients.keys() == whole.values.keys()
            assert all(g.abs().max() > 0 for g in whole.gradients.values()), "all trains, or this test is blind"
            assert max(whole.distance(even), whole.distance(uneven)) < 1e-9
