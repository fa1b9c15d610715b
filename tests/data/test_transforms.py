"""Augmentation drawn once per clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calot.data.transforms import HorizontalFlip
from calot.errors import CalotError
from calot.types import Batch


def batch(clips: int) -> Batch:
    rng = np.random.default_rng(0)
    video = torch.from_numpy(rng.integers(0, 255, (clips, 3, 3, 4, 6), dtype=np.uint8))
    return Batch(video=video, labels=torch.zeros(clips, 3), soft=torch.zeros(clips, 3), index=torch.arange(clips))


def generators(clips: int, *, epoch: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([7, epoch, i]) for i in range(clips)]


def test_a_flip_is_per_clip_all_frames_or_none() -> None:
    before = batch(64)
    after = HorizontalFlip()(before, rngs=generators(64))
    flipped = [torch.equal(a, b.flip(-1)) for a, b in zip(after.video, before.video, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(after.video, before.video, strict=True)]
    assert all(f != s for f, s in zip(flipped, same, strict=True))
    assert 20 < sum(flipped) < 44


def test_a_flip_never_and_a_flip_always() -> None:
    before = batch(5)
    assert torch.equal(HorizontalFlip(0.0)(before, rngs=generators(5)).video, before.video)
    assert torch.equal(HorizontalFlip(1.0)(before, rngs=generators(5)).video, before.video.flip(-1))


def test_a_flip_leaves_the_batch_it_was_given_and_its_labels_alone() -> None:
    before = batch(8)
    kept = before.video.clone()
    after = HorizontalFlip(1.0)(before, rngs=generators(8))
    assert torch.equal(before.video, kept)
    assert after.labels is before.labels


def test_an_impossible_probability_is_refused() -> None:
    with pytest.raises(CalotError, match=r"HorizontalFlip\.probability=2"):
        HorizontalFlip(2)
