"""`compute.gradient_checkpointing` is no treatment: the same step, for less memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from run_requests import in_double, in_float64, requested, step_of, trainer, without_chance

from calot.data.dataset import EpochIndices
from calot.run.trainer import Trainer
from calot.types import Batch

ON = "compute.gradient_checkpointing=True"


def _batch(run: Trainer) -> Batch:
    clips = run.train_set[EpochIndices(epoch=0, indices=tuple(range(6)))]
    return in_double(run.prepared(clips, epoch=1, start=0).batch)


@contextmanager
def _counted(run: Trainer) -> Iterator[list[int]]:
    """Which layers' attention is computed, in order: those computed again appear twice."""
    seen: list[int] = []
    hooks = [
        layer.attention.register_forward_pre_hook(lambda _m, _a, i=i: seen.append(i))
        for i, layer in enumerate(run.model.backbone.model.encoder.layer)
    ]
    yield seen
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("e02_frozen_probe", []),
        ("e08_multitask", [3]),
        ("e10a_lora_r16", [3, 2, 1, 0]),
        ("e11_attention_supervision", [3, 2, 1, 0]),
        ("e12_regularized", [3, 2, 1, 0]),
        ("e12_attention_bias", [3, 2, 1, 0]),
    ],
)
def test_a_step_is_the_same_and_the_layers_that_train_are_computed_again(
    name: str, again: list[int], phantom: Path, tmp_path: Path
) -> None:
    steps, computed = [], []
    for changes in ((), (ON,)):
        run = without_chance(trainer(phantom, tmp_path, "backbone.size=32", *changes, name=name))
        with _counted(run) as seen:
            steps.append(step_of(run, _batch(run), micro_batch=4))
        computed.append(seen)
    assert steps[0].distance(steps[1]) < 1e-12
    assert all(g.abs().max() > 0 for g in steps[0].gradients.values())
    passes = 2 * (2 if name == "e12_attention_bias" else 1)  # two micro-batches; the bias asks for a pass before
    assert computed[0] == [0, 1, 2, 3] * passes
    assert len(computed[1]) == len(computed[0]) + 2 * len(again)
    assert computed[1][-len(again) :] == again or not again


@pytest.mark.parametrize("name", ["e10a_lora_r16", "e11_attention_supervision", "e08_drop_path"])
def test_dropout_and_drop_path_draw_the_same_when_a_layer_is_computed_again(
    name: str, phantom: Path, tmp_path: Path
) -> None:
    changes = ("backbone.size=32", *(("backbone.drop_path=0.5",) if name == "e08_drop_path" else ()))
    kept, again = (in_float64(trainer(phantom, tmp_path, *changes, *more, name=name)) for more in ((), (ON,)))
    plain, checkpointed = (step_of(run, _batch(run), micro_batch=4) for run in (kept, again))
    assert plain.distance(checkpointed) < 1e-12
    without = step_of(without_chance(kept), _batch(kept), micro_batch=4)
    assert plain.distance(without) > 1e-6, "chance must act, or this test is blind"


def test_it_is_no_treatment(phantom: Path, tmp_path: Path) -> None:
    run, plain = (requested(phantom, tmp_path, changes=changes).experiment for changes in ((ON,), ()))
    assert run.compute != plain.compute
    assert run.fingerprint() == plain.fingerprint()
