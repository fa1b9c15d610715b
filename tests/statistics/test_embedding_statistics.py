"""Vectors that are the video, vectors that are not, and clips that share frames."""

from __future__ import annotations

import numpy as np
import pytest

from calot.errors import CalotError
from calot.statistics.embeddings import between_share, plane_map, video_identity

VIDEOS = np.repeat([f"{n}" for n in range(8)], 20)
SECONDS = np.tile(np.arange(20) * 5.0, 8)


def test_vectors_that_are_the_video_are_told_apart_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(160, 16))
    of_video = np.repeat(rng.normal(size=(8, 16)), 20, axis=0) * 6 + noise
    told = video_identity(of_video, videos=VIDEOS, seconds=SECONDS, span=8.0)
    blind = video_identity(noise, videos=VIDEOS, seconds=SECONDS, span=8.0)
    assert told.accuracy.interval.value is not None
    assert told.accuracy.interval.value > 0.98
    assert told.variance.value is not None
    assert told.variance.value > 0.9
    assert blind.accuracy.interval.value is not None
    assert blind.accuracy.interval.value < 0.3
    assert blind.chance == pytest.approx(1 / 8)
    assert blind.variance.value == pytest.approx(0.0, abs=0.05)


def test_what_passes_within_seconds_is_not_the_video() -> None:
    """Vectors that drift within a video, alike only where clips share frames: nothing is told from other times."""
    rng = np.random.default_rng(1)
    steps = rng.normal(size=(160, 40))
    shared = steps + np.roll(steps, 1, axis=0)  # neighbours in time share half of it
    found = video_identity(shared, videos=VIDEOS, seconds=SECONDS, span=8.0)
    assert found.accuracy.interval.value is not None
    assert found.accuracy.interval.value < 0.3


def test_a_video_without_other_times_is_left_out_and_counted() -> None:
    rng = np.random.default_rng(2)
    found = video_identity(rng.normal(size=(160, 4)), videos=VIDEOS, seconds=SECONDS, span=1000.0)
    assert found.left_out == 160
    assert found.accuracy.interval.value is None


def test_one_video_and_one_clip_a_video_are_said_to_be_too_little() -> None:
    alone = video_identity(np.eye(5), videos=np.array(["1"] * 5), seconds=np.arange(5.0), span=1.0)
    assert alone.accuracy.interval.reason == "there is one video alone"
    assert between_share(np.eye(5), videos=np.arange(5).astype(str)).value is None


def test_the_map_is_the_plane_of_largest_variance_with_its_share() -> None:
    rng = np.random.default_rng(3)
    flat = rng.normal(size=(100, 2)) @ np.array([[1.0, 1.0, -1.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
    found = plane_map(flat)
    assert sum(found.shares) == pytest.approx(1.0)
    apart = np.linalg.norm(found.places[:, None] - found.places[None], axis=-1)
    standard = (flat - flat.mean(axis=0)) / flat.std(axis=0)
    expected = np.linalg.norm(standard[:, None] - standard[None], axis=-1)
    np.testing.assert_allclose(apart, expected, atol=1e-9)
    assert (found.places[np.abs(found.places).argmax(axis=0), (0, 1)] > 0).all()
    assert plane_map(np.ones((4, 3))).shares == (0.0, 0.0)


def test_a_vector_that_is_not_finite_is_refused() -> None:
    vectors = np.ones((160, 2))
    vectors[7, 1] = np.inf
    with pytest.raises(CalotError, match=r"vector 7 \(from 0\)"):
        video_identity(vectors, videos=VIDEOS, seconds=SECONDS, span=8.0)
