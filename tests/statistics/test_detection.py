"""Which criterion a run is blind to, on tables whose answer is known: planted blindness, chance, and few videos."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.statistics.detection import compare_criteria


def _table(
    rng: np.random.Generator, *, videos: int = 40, clips: int = 10, sees: tuple[float, float, float]
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.str_]]:
    """Correlated criteria; what a model sees of each is its hidden amount times `sees`, and every score also follows
    what is seen of the others, as a trained model's does."""
    common = rng.normal(size=(videos, 1, 1)) + 0.5 * rng.normal(size=(videos, clips, 1))
    hidden = (common + rng.normal(size=(videos, 1, 3)) + 0.5 * rng.normal(size=(videos, clips, 3))).reshape(-1, 3)
    labels = (hidden > np.quantile(hidden, 0.8, axis=0)).astype(np.int8)
    seen = hidden * sees + 0.3 * rng.normal(size=hidden.shape)
    logits = 2.0 * seen + 0.6 * (seen.sum(axis=1, keepdims=True) - seen)
    names = np.repeat([f"{v}" for v in range(videos)], clips)
    return labels, logits.astype(np.float32), names.astype(np.str_)


@pytest.mark.parametrize("blind", range(3))
def test_exactly_the_criterion_that_is_not_seen_is_undetectable(blind: int) -> None:
    sees = tuple(0.0 if k == blind else 1.0 for k in range(3))
    named = 0
    for seed in range(20):
        labels, logits, videos = _table(np.random.default_rng(seed), sees=sees)
        found = compare_criteria(labels, logits=logits, videos=videos)
        assert set(found.blind) <= {CRITERIA[blind]}, seed
        named += found.blind == [CRITERIA[blind]]
    assert named >= 18


def test_on_all_clips_the_unseen_criterion_still_looks_detected() -> None:
    """Why the clips that show exactly one criterion decide."""
    labels, logits, videos = _table(np.random.default_rng(0), videos=200, clips=4, sees=(1.0, 1.0, 0.0))
    found = compare_criteria(labels, logits=logits, videos=videos).detections["cystic_plate"]
    assert found.among_all.low is not None
    assert found.chance_among_all is not None
    assert found.among_all.low > found.chance_among_all
    assert found.standing == "undetectable"
    assert found.sentence().startswith("C3 cystic plate is undetectable: AP ")


def test_where_all_is_seen_nothing_is_undetectable() -> None:
    detected = 0
    for seed in range(20):
        labels, logits, videos = _table(np.random.default_rng(seed), sees=(1.0, 1.0, 1.0))
        found = compare_criteria(labels, logits=logits, videos=videos)
        assert found.blind == []
        detected += sum(one.standing == "detected" for one in found.detections.values())
    assert detected >= 50


def test_two_videos_cannot_name_anything() -> None:
    labels = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]] * 8, dtype=np.int8)
    logits = np.zeros((24, 3), dtype=np.float32)
    videos = np.repeat(["a", "b"], 12).astype(np.str_)
    found = compare_criteria(labels, logits=logits, videos=videos)
    assert found.blind == []
    assert "only 2 videos" in found.detections["two_structures"].sentence()


def test_confusion_counts_every_single_criterion_clip_once() -> None:
    labels = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 0, 0]], dtype=np.int8)
    logits = np.array([[3, 0, 0], [0, 3, 0], [5, 4, 0], [0, 0, 1], [9, 9, 9], [8, 8, 8]], dtype=np.float32)
    found = compare_criteria(labels, logits=logits, videos=np.array(list("abcdef")))
    assert found.highest.tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert found.highest_rank.sum() == 4


def test_a_criterion_that_no_clip_shows_alone_is_undefined() -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0]] * 6, dtype=np.int8)
    found = compare_criteria(labels, logits=np.zeros((12, 3), np.float32), videos=np.repeat(list("abcdef"), 2))
    assert "cannot be judged: no clip shows it" in found.detections["cystic_plate"].sentence()
    assert "no clip shows another" in found.detections["two_structures"].sentence()
