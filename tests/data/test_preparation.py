"""What is drawn for a clip depends on the clip and its place in the run alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from calot.data.preparation import Preparation
from calot.data.transforms import Augmentation, HorizontalFlip
from calot.types import Batch

FLIPS = Preparation(augment=(HorizontalFlip(),), seed=5)


def clips(count: int, *, first: int = 0) -> Batch:
    """Clips 100 + first and on, of noise that each clip brings along."""
    index = torch.arange(100 + first, 100 + first + count)
    video = torch.stack(
        [torch.from_numpy(np.random.default_rng(int(i)).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)) for i in index]
    )
    labels = (index.view(-1, 1) % torch.tensor([2, 3, 5]) == 0).float()
    return Batch(video=video, labels=labels, soft=labels / 2, index=index)


def prepared(preparation: Preparation, batch: Batch, *, stage: int = 0, epoch: int = 0, start: int = 0) -> Batch:
    return preparation(batch, stage=stage, epoch=epoch, start=start).batch


def test_draws_do_not_depend_on_the_batch_size() -> None:
    whole = prepared(FLIPS, clips(24)).video
    parts = [prepared(FLIPS, clips(6, first=i), start=i).video for i in range(0, 24, 6)]
    assert torch.equal(whole, torch.cat(parts))


def test_another_stage_epoch_place_and_seed_draw_anew() -> None:
    first = prepared(FLIPS, clips(24)).video
    assert torch.equal(first, prepared(FLIPS, clips(24)).video)
    for other in ({"stage": 1}, {"epoch": 1}, {"start": 24}):
        assert not torch.equal(first, prepared(FLIPS, clips(24), **other).video)
    assert not torch.equal(first, prepared(replace(FLIPS, seed=6), clips(24)).video)


def test_a_clip_drawn_many_times_in_an_epoch_is_augmented_each_time() -> None:
    one = clips(1)
    same = Batch(**{n: v.expand(40, *v.shape[1:]) for n, v in vars(one).items() if isinstance(v, torch.Tensor)})
    flipped = sum(not torch.equal(clip, one.video[0]) for clip in prepared(FLIPS, same).video)
    assert 8 < flipped < 32


@dataclass(frozen=True)
class Brighten(Augmentation):
    """A second component that draws, too."""

    def __call__(self, batch: Batch, *, rngs: Sequence[np.random.Generator]) -> Batch:
        more = torch.tensor([int(rng.integers(1, 5)) for rng in rngs], dtype=torch.uint8)
        return replace(batch, video=batch.video // 2 + more.view(-1, 1, 1, 1, 1))


def test_one_components_draws_do_not_depend_on_another() -> None:
    batch = clips(24)
    both = prepared(replace(FLIPS, augment=(Brighten(), HorizontalFlip())), batch).video
    bright = prepared(replace(FLIPS, augment=(Brighten(),)), batch).video
    flipped = [not torch.equal(a, b) for a, b in zip(prepared(FLIPS, batch).video, batch.video, strict=True)]
    assert 4 < sum(flipped) < 20
    for clip, was, flip in zip(both, bright, flipped, strict=True):
        assert torch.equal(clip, was.flip(-1) if flip else was)


def test_two_components_of_one_class_draw_apart() -> None:
    batch = clips(24)
    twice = prepared(replace(FLIPS, augment=(HorizontalFlip(), HorizontalFlip())), batch).video
    assert not torch.equal(twice, batch.video)  # drawing alike, the second would undo the first everywhere


def test_nothing_asked_for_changes_nothing() -> None:
    batch = clips(3)
    assert prepared(Preparation(), batch) is batch
