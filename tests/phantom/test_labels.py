"""The phantom's labels alone: known shapes, known fills, and the real tables' statistics."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.phantom import PhantomSpec, simulate_labels
from calot.phantom.audit import label_rows
from calot.phantom.plan import split_sizes
from calot.phantom.raters import fills
from calot.phantom.statistics import REAL, describe_votes
from calot.statistics.agreement import cohen_kappa, fleiss_kappa


@pytest.fixture(scope="module")
def full_size():
    return simulate_labels(PhantomSpec(videos=201, seed=1))


@pytest.mark.parametrize(
    ("videos", "sizes"), [(201, (120, 41, 40)), (12, (7, 3, 2)), (3, (1, 1, 1)), (4, (2, 1, 1)), (60, (36, 12, 12))]
)
def test_splits_keep_the_real_shares_and_are_never_empty(videos, sizes):
    assert tuple(split_sizes(PhantomSpec(videos=videos)).values()) == sizes


def test_fills_hold_the_nearest_keyframe_and_zero_outside_the_keyframes():
    filled = fills(np.array([[1.0], [0.0], [2 / 3]]), keyframes=np.array([4, 9, 14]), frames=18)
    expected = [0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 2 / 3, 2 / 3, 2 / 3, 0, 0, 0]
    assert filled[:, 0].tolist() == expected


def test_equal_seeds_give_equal_labels_and_other_seeds_do_not():
    a, b, c = (simulate_labels(PhantomSpec(videos=6, seed=s, mean_frames=80)) for s in (5, 5, 6))
    assert all(np.array_equal(x.votes, y.votes) for x, y in zip(a, b, strict=True))
    assert not all(np.array_equal(x.votes, y.votes) for x, y in zip(a, c, strict=True))


def test_every_split_of_three_short_videos_holds_positives_of_every_criterion():
    for seed in range(5):
        for video in simulate_labels(PhantomSpec(videos=3, seed=seed, mean_frames=120, min_frames=100)):
            assert video.majority.any(axis=0).all(), (seed, video.plan.split)


def test_prevalence_is_the_real_one_within_two_points(full_size):
    labels = np.concatenate([v.majority for v in full_size if v.plan.split == "train"])
    assert labels.mean(axis=0) == pytest.approx((0.156, 0.112, 0.179), abs=0.02)


def test_label_statistics_lie_in_the_bands_of_the_real_tables(full_size):
    rows = label_rows([v.votes for v in full_size if v.plan.split != "test"])
    assert {row.name: row.value for row in rows if not row.passed} == {}


def test_lengths_follow_the_real_videos(full_size):
    frames = np.array([v.plan.frames for v in full_size])
    assert (frames.min(), frames.max() <= 1752) == (pytest.approx(58, abs=12), True)
    assert frames.mean() == pytest.approx(305.8, rel=0.1)
    assert np.all(frames % 5 == 3)  # the last keyframe stands three frames before the end


def test_labels_follow_the_hidden_state_up_to_the_raters(full_size):
    """The median rater is near unbiased: the truth and the majority agree on most keyframes, but not on all."""
    truth = np.concatenate([v.state.met[v.plan.keyframes] for v in full_size])
    majority = np.concatenate([v.majority for v in full_size])
    agreement = (truth == majority).mean(axis=0)
    assert np.all(agreement > 0.85)
    assert np.all(agreement < 0.99)


def test_the_biased_rater_alone_changes_and_says_yes_more_often():
    fair, biased = (simulate_labels(PhantomSpec(videos=12, seed=2, biased_rater=r)) for r in (None, 1))
    before, after = (np.concatenate([v.votes for v in videos]) for videos in (fair, biased))
    assert np.array_equal(before[:, 1:], after[:, 1:])
    assert np.all(after[:, 0] >= before[:, 0])
    assert after[:, 0].mean() > before[:, 0].mean() + 0.1


def test_kappas_of_known_votes():
    same = np.array([[1, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 0]], dtype=np.int8)
    assert fleiss_kappa(same) == pytest.approx(1.0)
    assert cohen_kappa(np.array([1, 1, 0, 0], np.int8), np.array([1, 0, 1, 0], np.int8)) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("videos", 2), ("invisible", "C1"), ("shortcut", "plate"), ("biased_rater", 4), ("mask_share", 1.5)],
)
def test_a_wrong_field_is_named_with_its_value(field, value):
    with pytest.raises(CalotError, match=f"{field}={value!r}"):
        PhantomSpec(**{field: value})


def _real_tables() -> Path:
    folder = os.environ.get("CALOT_REAL_LABELS")
    if not folder:
        reason = "set CALOT_REAL_LABELS to the folder with endo_train_keyframes_raters.csv to compare with real labels"
        print(reason)
        pytest.skip(reason)
    return Path(folder)


def test_the_stored_targets_are_those_of_the_real_train_tables():
    table = pl.read_csv(_real_tables() / "endo_train_keyframes_raters.csv")
    votes = [
        np.stack([rows.select(f"c{k}_rater{r}" for r in (1, 2, 3)).to_numpy() for k in (1, 2, 3)], axis=2)
        for _, rows in table.group_by("vid", maintain_order=True)
    ]
    measured = describe_votes([v.astype(np.int8) for v in votes])
    assert {name: measured[name] for name in REAL} == pytest.approx({n: b.target for n, b in REAL.items()}, abs=0.001)
    assert len(CRITERIA) == 3


def test_fills_rebuild_the_real_all_frames_tables():
    folder = _real_tables()
    frames = pl.read_csv(folder / "endo_train_all1fps.csv")
    keys = pl.read_csv(folder / "endo_train_keyframes_raters.csv")
    wrong = 0
    for (video,), rows in frames.group_by("vid", maintain_order=True):
        own = keys.filter(pl.col("vid") == video)
        first = rows["frame"][0]
        at = ((own["frame"] - first) // 25).to_numpy()
        if (rows["frame"][-1] - first) // 25 + 1 != rows.height:
            continue  # a gap in the frames: indices are not seconds there
        rebuilt = fills(own.select("c1", "c2", "c3").to_numpy(), keyframes=at, frames=rows.height)
        wrong += int((np.abs(rebuilt - rows.select("c1", "c2", "c3").to_numpy()) > 1e-3).any(axis=1).sum())
    assert wrong <= 0.004 * frames.height  # 121 of 36,694 real rows, in 11 videos, hold something else


def test_raters_whose_habits_are_alike_are_told_apart_only_by_a_planted_bias() -> None:
    from calot.statistics.raters import rater_bias

    named = {}
    for biased in (None, 2):
        spec = PhantomSpec(videos=40, seed=11, mean_frames=60.0, rater_spread=0.0, biased_rater=biased)
        labels = simulate_labels(spec)
        videos = np.concatenate([[str(one.plan.video)] * len(one.votes) for one in labels])
        votes = np.concatenate([one.votes for one in labels])
        found = rater_bias(votes, videos=videos, raters=["1", "2", "3"])
        assert found is not None
        named[biased] = found.named
    assert named == {None: [], 2: ["2"]}


def test_a_spread_of_one_changes_no_vote_and_is_not_described() -> None:
    plain, same = PhantomSpec(videos=6, seed=3), PhantomSpec(videos=6, seed=3, rater_spread=1.0)
    assert "rater_spread" not in same.to_dict()
    for one, other in zip(simulate_labels(plain), simulate_labels(same), strict=True):
        assert np.array_equal(one.votes, other.votes)
