"""A split that calot draws: by video, from ids and seed alone, and every split gets one."""

from calot.data.splitting import drawn_split


def test_a_draw_depends_on_ids_and_seed_alone() -> None:
    ids = [f"v{i}" for i in range(100)]
    drawn = drawn_split(ids, seed=3)
    assert drawn == drawn_split(reversed(ids * 2), seed=3)
    assert drawn != drawn_split(ids, seed=4)
    assert [list(drawn.values()).count(s) for s in ("train", "val", "test")] == [70, 15, 15]


def test_a_draw_is_the_same_in_every_release() -> None:
    """Results name a split by its seed: another order here would be another data set under the same words."""
    held = {video: split for video, split in drawn_split("abcdefg", seed=0).items() if split != "train"}
    assert held == {"f": "val", "d": "test"}


def test_held_out_splits_have_one_video_at_least() -> None:
    assert sorted(drawn_split("abc", seed=1).values()) == ["test", "train", "val"]
    assert sorted(drawn_split("abc", seed=1, held=["val"]).values()) == ["train", "train", "val"]
