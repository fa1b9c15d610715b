"""What is drawn for a clip depends on the clip and its place in the run alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from calot.data.augmentations import FAMILY_D
from calot.data.mixing import Mixing
from calot.data.preparation import Preparation
from calot.data.transforms import Augmentation, HorizontalFlip
from calot.errors import CalotError
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


MIXES = replace(FLIPS, mixing=Mixing(), label_smoothing=0.1)


def test_mixing_follows_augmentation_and_smoothing_follows_mixing() -> None:
    batch = clips(8)
    made = MIXES(batch, stage=0, epoch=0, start=0)
    augmented = prepared(FLIPS, batch)
    mixed_up = replace(FLIPS, augment=(), mixing=MIXES.mixing)(augmented, stage=0, epoch=0, start=0)
    assert torch.equal(made.batch.video, mixed_up.batch.video)
    assert torch.allclose(made.batch.labels, mixed_up.batch.labels * 0.9 + 0.05)
    assert (made.kind, made.lam.tolist()) == (mixed_up.kind, mixed_up.lam.tolist())
    assert made.batch.soft is batch.soft


def test_augmentation_draws_the_same_whether_clips_are_mixed_or_not() -> None:
    """Both share one seed; the frames of an unmixed batch tell."""
    never = replace(MIXES, mixing=Mixing(mixup_probability=0.0, cutmix_probability=0.0))
    assert torch.equal(prepared(never, clips(24)).video, prepared(FLIPS, clips(24)).video)


def test_each_effective_batch_is_mixed_anew_and_a_repeated_one_alike() -> None:
    made = [MIXES(clips(4), stage=0, epoch=e, start=s) for e in range(10) for s in range(0, 40, 4)]
    again = MIXES(clips(4), stage=0, epoch=0, start=0)
    assert torch.equal(made[0].batch.video, again.batch.video)
    assert len({float(m.lam[0]) for m in made if m.kind == "mixup"}) == sum(m.kind == "mixup" for m in made)
    assert 30 < sum(m.kind == "mixup" for m in made) < 70  # 100 batches, half of them MixUp: 4 standard deviations


def test_without_mixing_every_clip_keeps_itself() -> None:
    made = FLIPS(clips(3), stage=0, epoch=0, start=0)
    assert made.kind is None
    assert made.lam.tolist() == [1.0, 1.0, 1.0]


def test_smoothing_leaves_the_rater_mean_and_the_given_labels_alone() -> None:
    batch = clips(6)
    made = prepared(Preparation(label_smoothing=0.1), batch)
    assert sorted(set(made.labels.flatten().tolist())) == pytest.approx([0.05, 0.95])
    assert set(batch.labels.flatten().tolist()) == {0.0, 1.0}
    assert made.soft is batch.soft
    assert made.video is batch.video


def test_the_whole_family_with_mixing_is_the_same_however_the_epoch_is_resumed() -> None:
    whole = Preparation(augment=FAMILY_D, mixing=Mixing(), seed=3)
    assert torch.equal(prepared(whole, clips(4), start=8).video, prepared(whole, clips(4), start=8).video)
    assert not torch.equal(prepared(whole, clips(4), start=8).video, prepared(whole, clips(4), start=12).video)


def test_an_impossible_smoothing_is_refused() -> None:
    with pytest.raises(CalotError, match=r"label_smoothing=1\.5"):
        Preparation(label_smoothing=1.5)
