"""Batches: the same whoever loads them, in order, none lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from endoscapes_folder import Folder

from calot.data.clip_rules import ClipRule
from calot.data.clips import AllFrames, MajorityLabel, build_clips
from calot.data.dataset import ClipDataset, EpochIndices, batches, uploaded
from calot.data.endoscapes.reader import read_endoscapes
from calot.data.geometry import Squash
from calot.data.store import open_store
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
    return ClipDataset(table, store)


def equal(one: list[Batch], other: list[Batch]) -> bool:
    names = ("video", "labels", "soft", "index")
    return all(torch.equal(vars(a)[n], vars(b)[n]) for a, b in zip(one, other, strict=True) for n in names)


def epoch(dataset: ClipDataset, *, number: int = 0, batch_size: int = 5, **more: object) -> list[Batch]:
    return list(batches(dataset, order=ORDER, epoch=number, batch_size=batch_size, **more))  # type: ignore[arg-type]


def test_a_batch_holds_the_clips_asked_for_with_their_labels(dataset: ClipDataset) -> None:
    batch = dataset[EpochIndices(epoch=0, indices=(7, 2))]
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


@pytest.mark.parametrize("workers", [1, 4])
def test_batches_do_not_depend_on_the_workers(dataset: ClipDataset, workers: int) -> None:
    assert equal(epoch(dataset), epoch(dataset, workers=workers))


def test_uploading_changes_no_batch_and_asks_for_none_too_early(dataset: ClipDataset) -> None:
    plain, asked = epoch(dataset), []

    def loading() -> Iterator[Batch]:
        for number, batch in enumerate(epoch(dataset)):
            asked.append(number)
            yield batch

    for number, (batch, on_device) in enumerate(uploaded(loading(), device=torch.device("cpu"))):
        assert equal([plain[number]], [batch])
        assert equal([plain[number]], [on_device])
        assert asked == list(range(number + 1))
    assert len(asked) == len(plain)


def test_a_resumed_epoch_goes_on_with_the_same_batches(dataset: ClipDataset) -> None:
    assert equal(epoch(dataset, first=3), epoch(dataset)[3:])
    assert epoch(dataset, first=5) == []


class Failing(ClipDataset):
    """Cannot read one batch, as where memory runs out or a disk fails."""

    def __getitem__(self, request: EpochIndices) -> Batch:
        if request.start == 10:
            raise MemoryError("no more")
        return super().__getitem__(request)


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_what_fails_in_a_worker_is_raised_where_its_batch_is_waited_for(dataset: ClipDataset, workers: int) -> None:
    loaded = batches(Failing(dataset.table, dataset.store), order=ORDER, epoch=0, batch_size=5, workers=workers)
    assert [len(next(loaded)), len(next(loaded))] == [5, 5]
    with pytest.raises(MemoryError, match="no more"):
        next(loaded)


def test_workers_read_as_many_batches_ahead_as_there_are_of_them_and_end_with_the_epoch(dataset: ClipDataset) -> None:
    asked = []

    class Watched(ClipDataset):
        def __getitem__(self, request: EpochIndices) -> Batch:
            asked.append(request.start)
            return super().__getitem__(request)

    loaded = batches(Watched(dataset.table, dataset.store), order=ORDER, epoch=0, batch_size=2, workers=2)
    next(loaded)
    assert len(asked) <= 3
    loaded.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("calot loader")]


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
