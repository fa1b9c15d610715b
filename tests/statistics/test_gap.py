"""What is said of the feature-classification gap, and what is not."""

from __future__ import annotations

import numpy as np

from calot.statistics.gap import ALL_TOKENS, GAPS, INSIDE, PREDICTED, TRUE, gap_sentences
from calot.statistics.probing import probe_features


def _found(noise: dict[str, float], *, videos: int = 12, each: int = 14, seed: int = 0):
    rng = np.random.default_rng(seed)
    names = np.repeat(np.arange(videos), each).astype(str)
    labels = (rng.random((videos * each, 3)) < 0.35).astype(np.int8)
    kinds = {name: labels + level * rng.normal(size=labels.shape) for name, level in noise.items()}
    return probe_features(kinds, labels=labels, videos=names, pairs=list(GAPS))


def test_each_step_that_costs_is_said_with_its_points_and_no_other() -> None:
    said = gap_sentences(_found({TRUE: 0.1, PREDICTED: 0.1, INSIDE: 0.1, ALL_TOKENS: 3.0}))
    assert len(said) == 3
    assert all("points of mAP" in one for one in said)
    assert any("pooling over everything costs" in one for one in said)
    assert any("does not reach the classifier" in one for one in said)
    assert not any("segmentation errors" in one for one in said)


def test_a_difference_the_other_way_round_is_said_the_other_way_round() -> None:
    said = gap_sentences(_found({TRUE: 3.0, INSIDE: 0.1}))
    assert len(said) == 1
    assert "the encoder adds" in said[0]


def test_where_nothing_is_supported_one_sentence_says_so() -> None:
    (said,) = gap_sentences(_found({TRUE: 1.0, ALL_TOKENS: 1.0}))
    assert "168 clips of 12 videos cannot say" in said


def test_too_few_videos_for_one_criterion_leaves_the_others() -> None:
    rng = np.random.default_rng(2)
    names = np.repeat(np.arange(12), 14).astype(str)
    labels = (rng.random((168, 3)) < 0.35).astype(np.int8)
    labels[:, 2] = 0
    kinds = {TRUE: labels + 0.1 * rng.normal(size=labels.shape), ALL_TOKENS: rng.normal(size=(168, 5))}
    said = gap_sentences(probe_features(kinds, labels=labels, videos=names, pairs=list(GAPS)))
    assert len(said) == 2
    assert all("AP of C" in one for one in said)
