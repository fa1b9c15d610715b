"""Features that hold a label, features that do not, and what may be said of their difference."""

from __future__ import annotations

import numpy as np
import pytest

from calot.errors import CalotError
from calot.statistics.probing import left_out_scores, probe_features, why_unjudged


def _clips(videos: int = 12, each: int = 15, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    names = np.repeat([f"{100 + v}" for v in range(videos)], each)
    labels = (rng.random((videos * each, 3)) < 0.35).astype(np.int8)
    return names, labels, rng


def test_features_that_hold_the_labels_beat_noise_and_the_difference_is_supported() -> None:
    videos, labels, rng = _clips()
    holds = labels + 0.25 * rng.normal(size=labels.shape)
    noise = rng.normal(size=(len(labels), 200))
    found = probe_features({"holds": holds, "noise": noise}, labels=labels, videos=videos, pairs=[("holds", "noise")])
    assert (found.clips, found.videos) == (180, 12)
    for criterion in ("two_structures", "hepatocystic_triangle", "cystic_plate"):
        good, bad = found.score("holds", criterion), found.score("noise", criterion)
        assert good.ap.value is not None
        assert good.ap.value > 0.85
        assert bad.ap.value is not None
        assert bad.ap.value < 0.55
        assert bad.chance == pytest.approx(0.35, abs=0.08)
    assert all(d.supported and (d.difference.value or 0) > 0.3 for d in found.differences)
    assert found.differences[-1].criterion is None


def test_two_kinds_of_equal_features_differ_by_nothing_and_nothing_is_supported() -> None:
    videos, labels, rng = _clips(seed=1)
    holds = labels + rng.normal(size=labels.shape)
    rotated = holds @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    found = probe_features(
        {"a": holds, "b": holds.copy(), "c": rotated}, labels=labels, videos=videos, pairs=[("a", "b")]
    )
    assert [d.difference.value for d in found.differences] == [0.0] * 4
    assert not any(d.supported for d in found.differences)


def test_what_only_tells_videos_apart_is_worth_nothing_when_videos_are_left_out() -> None:
    rng = np.random.default_rng(3)
    videos = np.repeat([f"v{n}" for n in range(20)], 12)
    of_video = rng.random(20) < 0.5
    label = np.repeat(of_video, 12)
    identity = np.repeat(np.eye(20), 12, axis=0)
    scores = left_out_scores(identity, label, videos=videos)
    rank = scores[label].mean() - scores[~label].mean()
    assert rank <= 1e-6, "the video's own label leaked into its score"


def test_a_runs_own_scores_need_no_fitting() -> None:
    videos, labels, _ = _clips(seed=2)
    found = probe_features({}, labels=labels, videos=videos, given={"own": labels.astype(float)})
    assert [s.ap.value for s in found.scores] == [1.0, 1.0, 1.0, 1.0]


def test_few_videos_with_a_positive_are_not_judged_and_the_others_are() -> None:
    videos, labels, rng = _clips(videos=8, seed=4)
    labels[:, 1] = 0
    labels[:5, 1] = 1
    found = probe_features({"x": rng.normal(size=(len(labels), 4))}, labels=labels, videos=videos, pairs=[("x", "x")])
    unjudged = found.score("x", "hepatocystic_triangle")
    assert unjudged.ap.value is None
    assert "1 of 8 videos have a positive clip" in (unjudged.ap.reason or "")
    assert found.score("x", "two_structures").ap.value is not None
    assert found.score("x").ap.value is None
    assert why_unjudged(np.ones(len(labels), dtype=bool), videos=videos) is not None


def test_constant_and_wide_features_are_read_and_nan_is_refused() -> None:
    videos, labels, rng = _clips(videos=5, each=8, seed=5)
    wide = np.concatenate([np.full((40, 3), 7.0), rng.normal(size=(40, 300))], axis=1)
    assert np.isfinite(left_out_scores(wide, labels[:, 0] == 1, videos=videos)).all()
    assert np.ptp(left_out_scores(np.ones((40, 2)), labels[:, 0] == 1, videos=videos)) < 10
    wide[3, 5] = np.nan
    with pytest.raises(CalotError, match="feature 5 of clip 3"):
        left_out_scores(wide, labels[:, 0] == 1, videos=videos)
