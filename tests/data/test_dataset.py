"""Batches: the same whoever loads them, in order, none lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from endoscapes_folder import Folder

from calot.data.clips import AllFrames, ClipRule, MajorityLabel, build_clips
from calot.data.dataset import ClipDataset, EpochIndices, batches
from calot.data.endoscapes import read_endoscapes
from calot.data.geometry import Squash
from calot.data.store import open_store
from calot.data.transforms import HorizontalFlip
from calot.errors import CalotError
from calot.types import Batch

ORDER = np.random.default_rng(0).permutation(24)


@pytest.fixture
def dataset(folder: Callable[[], Folder]) -> ClipDataset:
    return of_split(folder().write_images(), split="train")


def of_split(root: Path, *, split: str) -> ClipDataset:
    manifest = read_endoscapes(root)
    table = build_clips(
        manifest, split=split, protocol=AllFrames(), rule=ClipRule(length=4), label_rule=MajorityLabel(), training=True
    )
    store = open_store(root, manifest.split(split), geometry=Squash(), size=16)
    return ClipDataset(table, store, augment=(HorizontalFlip(),), seed=5)


def equal(one: list[Batch], other: list[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(vars(a)[name], vars(b)[name]) for a, b in pairs for name in vars(a))


def epoch(dataset: ClipDataset, *, number: int = 0, batch_size: int = 5, **more: object) -> list[Batch]:
    return list(batches(dataset, order=ORDER, epoch=number, batch_size=batch_size, **more))  # type: ignore[arg-type]


def test_a_batch_holds_the_clips_asked_for_with_their_labels(dataset: ClipDataset) -> None:
    plain = replace(dataset, augment=())
    batch = plain[EpochIndices(epoch=0, indices=(7, 2))]
    assert batch.video.shape == (2, 4, 3, 16, 16)
    assert batch.video.dtype == torch.uint8
    assert (batch.video[1].numpy() == dataset.store.read(dataset.table.frames[2])).all()
    assert batch.index.tolist() == [7, 2]
    assert (batch.labels.numpy() == dataset.table.labels[[7, 2]]).all()
    assert (batch.soft.numpy() == dataset.table.soft[[7, 2]]).all()


def test_an_epoch_yields_every_clip_once_in_order_with_the_last_partial_batch(dataset: ClipDataset) -> None:
    made = epoch(dataset)
    assert [len(b) for b in made] == [5, 5, 5, 5, 4]
    assert torch.cat([b.index for b in made]).tolist() == ORDER.tolist()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 4])
def test_draws_and_batches_do_not_depend_on_the_workers(dataset: ClipDataset, workers: int) -> None:
    assert equal(epoch(dataset), epoch(dataset, workers=workers))


@pytest.mark.slow
def test_spawned_workers_as_on_windows_yield_the_same(dataset: ClipDataset) -> None:
    assert equal(epoch(dataset), epoch(dataset, workers=1, start_method="spawn"))


def test_draws_do_not_depend_on_the_batch_size(dataset: ClipDataset) -> None:
    whole = torch.cat([b.video for b in epoch(dataset, batch_size=5)])
    assert torch.equal(whole, torch.cat([b.video for b in epoch(dataset, batch_size=7)]))


def test_a_resumed_epoch_goes_on_with_the_same_batches(dataset: ClipDataset) -> None:
    assert equal(epoch(dataset, first=3), epoch(dataset)[3:])
    assert epoch(dataset, first=5) == []


def test_another_epoch_and_another_seed_draw_anew(dataset: ClipDataset) -> None:
    first = epoch(dataset)
    assert not equal(first, epoch(dataset, number=1))
    assert not equal(first, epoch(replace(dataset, seed=6)))
    assert equal(first, epoch(dataset))


def test_a_clip_drawn_many_times_in_an_epoch_is_augmented_each_time(dataset: ClipDataset) -> None:
    video = dataset[EpochIndices(epoch=0, indices=(3,) * 40)].video
    flipped = sum(not torch.equal(clip, video[0]) for clip in video)
    assert 8 < flipped < 32


@dataclass(frozen=True)
class Brighten:
    """A second component that draws, too."""

    def __call__(self, batch: Batch, *, rngs: list[np.random.Generator]) -> Batch:
        more = torch.tensor([int(rng.integers(1, 5)) for rng in rngs], dtype=torch.uint8)
        return replace(batch, video=batch.video // 2 + more.view(-1, 1, 1, 1, 1))


def test_one_components_draws_do_not_depend_on_another(dataset: ClipDataset) -> None:
    request = EpochIndices(epoch=2, indices=tuple(range(24)))
    both = replace(dataset, augment=(Brighten(), HorizontalFlip()))[request].video
    bright = replace(dataset, augment=(Brighten(),))[request].video
    plain = replace(dataset, augment=())[request].video
    flipped = [not torch.equal(clip, was) for clip, was in zip(dataset[request].video, plain, strict=True)]
    assert 4 < sum(flipped) < 20
    for clip, was, flip in zip(both, bright, flipped, strict=True):
        assert torch.equal(clip, was.flip(-1) if flip else was)


def test_two_components_of_one_class_draw_apart(dataset: ClipDataset) -> None:
    request = EpochIndices(epoch=2, indices=tuple(range(24)))
    twice = replace(dataset, augment=(HorizontalFlip(), HorizontalFlip()))[request].video
    plain = replace(dataset, augment=())[request].video
    assert not torch.equal(twice, plain)  # drawing alike, the second would undo the first everywhere


def test_workers_take_one_thread_each(dataset: ClipDataset) -> None:
    @dataclass(frozen=True)
    class CountThreads:
        def __call__(self, batch: Batch, *, rngs: list[np.random.Generator]) -> Batch:
            return replace(batch, soft=torch.full_like(batch.soft, torch.get_num_threads()))

    counted = epoch(replace(dataset, augment=(CountThreads(),)), workers=1)
    assert {float(b.soft.max()) for b in counted} == {1.0}


def test_clips_of_one_split_and_the_store_of_another_are_refused(folder: Callable[[], Folder]) -> None:
    root = folder().write_images()
    train, val = of_split(root, split="train"), of_split(root, split="val")
    with pytest.raises(CalotError, match=r"clips of split train reach to row 23; .* 12 frames of split val"):
        ClipDataset(train.table, val.store)
    with pytest.raises(CalotError, match="clips of split val"):
        ClipDataset(val.table, train.store)


def test_a_batch_of_none_is_refused(dataset: ClipDataset) -> None:
    with pytest.raises(CalotError, match="batch_size=0"):
        epoch(dataset, batch_size=0)
