"""Clips: which frames, which labels; windows that never leave their run of frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from endoscapes_folder import ALL, NO, TWO_OF_THREE_SEE_C2, Folder

from calot.criteria import CRITERIA
from calot.data.clip_rules import ClipRule, PadWithLast
from calot.data.clips import (
    AllFrames,
    CentreLabel,
    ClipTable,
    Keyframes,
    LabelRule,
    MajorityLabel,
    Protocol,
    SoftLabel,
    StrictLabel,
    build_clips,
    protocol_named,
)
from calot.data.endoscapes.reader import read_endoscapes
from calot.data.manifest import Manifest
from calot.data.numbering import FrameNumbering
from calot.errors import CalotError


def clips(
    manifest: Manifest,
    *,
    protocol: Protocol,
    rule: ClipRule = ClipRule(length=4),  # noqa: B008
    label: LabelRule = CentreLabel(),  # noqa: B008
    split: str = "train",
    training: bool = True,
) -> ClipTable:
    return build_clips(manifest, split=split, protocol=protocol, rule=rule, label_rule=label, training=training)


def one_video(folder: Folder, *, frames: list[int]) -> Manifest:
    """One video whose keyframes are 1050 (none), 1175 (the hepatocystic triangle by two of three) and 1275 (all)."""
    folder.rows.clear()
    folder.videos.update(train=[], val=[], test=[])
    votes = {frame: v for frame, v in ((1050, NO), (1175, TWO_OF_THREE_SEE_C2), (1275, ALL)) if frame in frames}
    return read_endoscapes(folder.video(1, split="train", frames=frames, votes=votes).write())


@pytest.fixture
def manifest(folder: Callable[[], Folder]) -> Manifest:
    return one_video(folder(), frames=list(range(1000, 1300, 25)))


def test_a_causal_window_ends_on_the_keyframe_and_is_padded_at_the_start(manifest: Manifest) -> None:
    table = clips(manifest, protocol=Keyframes())
    assert table.frame_numbers.tolist() == [1050, 1175, 1275]
    assert table.clip(0).frames == (1000, 1000, 1025, 1050)
    assert table.clip(1).frames == (1100, 1125, 1150, 1175)


def test_a_centred_window_of_16_is_t_minus_8_to_t_plus_7(manifest: Manifest, folder: Callable[[], Folder]) -> None:
    long = one_video(folder(), frames=list(range(1000, 1800, 25)))
    clip = clips(long, protocol=AllFrames(), rule=ClipRule()).clip(10)
    assert clip.frame == 1250
    assert clip.frames == tuple(1250 + 25 * step for step in range(-8, 8))
    assert clip.frames.index(clip.frame) // 2 == 4  # the labelled frame is in tubelet 4


def test_a_centred_window_is_padded_at_both_ends(manifest: Manifest) -> None:
    table = clips(manifest, protocol=AllFrames())
    assert len(table) == 12
    assert table.clip(0).frames == (1000, 1000, 1000, 1025)
    assert table.clip(11).frames == (1225, 1250, 1275, 1275)


def test_five_frames_padded_to_sixteen_repeat_the_oldest(manifest: Manifest) -> None:
    clip = clips(manifest, protocol=Keyframes(), rule=ClipRule(length=5, pad_to=16)).clip(2)
    assert clip.frames == (1175,) * 12 + (1200, 1225, 1250, 1275)


def test_a_stride_takes_every_other_second_and_pads_on_its_own_grid(manifest: Manifest) -> None:
    table = clips(manifest, protocol=Keyframes(), rule=ClipRule(length=4, stride=2))
    assert table.clip(1).frames == (1025, 1075, 1125, 1175)
    assert table.clip(0).frames == (1000, 1000, 1000, 1050)


def test_windows_across_a_gap_are_cut_at_it_on_both_sides(folder: Callable[[], Folder]) -> None:
    frames = [*range(1000, 1125, 25), *range(1150, 1300, 25)]  # 1125 is missing
    gap = one_video(folder(), frames=frames)
    assert clips(gap, protocol=Keyframes()).clip(1).frames == (1150, 1150, 1150, 1175)
    centred = clips(gap, protocol=AllFrames(), rule=ClipRule(length=6))
    assert centred.clip(4).frames == (1025, 1050, 1075, 1100, 1100, 1100)


def test_windows_never_reach_into_another_video(folder: Callable[[], Folder]) -> None:
    manifest = read_endoscapes(folder().write())
    for protocol in (Keyframes(), AllFrames()):
        table = clips(manifest, protocol=protocol, rule=ClipRule(length=16))
        of_row = np.asarray(manifest.split("train").videos)
        assert (of_row[table.frames] == table.videos[:, None]).all()


def test_frame_numbers_of_a_clip_are_those_of_its_rows(manifest: Manifest) -> None:
    table = clips(manifest, protocol=AllFrames())
    assert (manifest.frames[table.row] == table.frame_numbers).all()
    assert (manifest.frames[table.frames] == table.clip_frame_numbers).all()
    assert (table.frames[:, 2] == table.row).all()


def test_label_rules_on_a_clip_worked_out_by_hand(manifest: Manifest) -> None:
    # The causal clip of 1275 sees 1200, 1225, 1250 (C2 by two of three: fills) and 1275 (all criteria, all raters).
    expected = {
        CentreLabel(): [1, 1, 1],
        MajorityLabel(): [0, 1, 0],
        SoftLabel(): [0.25, (3 * 2 / 3 + 1) / 4, 0.25],
    }
    for rule, labels in expected.items():
        table = clips(manifest, protocol=Keyframes(), label=rule)
        np.testing.assert_allclose(table.labels[2], labels, rtol=1e-6, err_msg=str(rule))


def test_padding_does_not_count_twice_in_a_label_rule(folder: Callable[[], Folder]) -> None:
    short = one_video(folder(), frames=[1050, 1075, 1100, 1125, 1150, 1175, 1200])
    rule = ClipRule(length=2, pad_to=16)  # 1150 (negative) fifteen times, then 1175 (the hepatocystic triangle)
    soft = clips(short, protocol=Keyframes(), rule=rule, label=SoftLabel())
    np.testing.assert_allclose(soft.labels[1], [0, 1 / 3, 0], rtol=1e-6)
    exactly_half = clips(short, protocol=Keyframes(), rule=rule, label=MajorityLabel())
    assert exactly_half.labels[1].tolist() == [0, 1, 0]


def test_strict_labels_leave_out_clips_whose_frames_disagree_and_count_them(manifest: Manifest) -> None:
    every = clips(manifest, protocol=Keyframes(), rule=ClipRule(length=4))
    strict = clips(manifest, protocol=Keyframes(), rule=ClipRule(length=4), label=StrictLabel())
    seen = [manifest.labels[rows] for rows in every.frames]
    agree = [bool((labels == labels[0]).all()) for labels in seen]
    assert 0 < sum(agree) < len(agree)
    assert strict.frame_numbers.tolist() == every.frame_numbers[np.array(agree)].tolist()
    assert (strict.labels == strict.majority).all()
    assert strict.left_out == len(agree) - sum(agree)


def test_a_label_rule_that_leaves_nothing_to_train_on_says_so(folder: Callable[[], Folder]) -> None:
    short = one_video(folder(), frames=[1125, 1150, 1175])  # 1175 alone is a keyframe, and the first two disagree
    with pytest.raises(CalotError, match="StrictLabel leaves no clip"):
        clips(short, protocol=Keyframes(), rule=ClipRule(length=3), label=StrictLabel())


@pytest.mark.parametrize("label", [CentreLabel(), MajorityLabel(), SoftLabel(), StrictLabel()])
@pytest.mark.parametrize("split", ["val", "test"])
def test_pitfall_test_labels_changed_by_a_training_label_rule(
    folder: Callable[[], Folder], label: LabelRule, split: str
) -> None:
    manifest = read_endoscapes(folder().write())
    table = clips(manifest, protocol=AllFrames(), label=label, split=split, training=False)
    assert (table.labels == manifest.split(split).labels).all()


def test_pitfall_split_test_answering_train(folder: Callable[[], Folder]) -> None:
    manifest = read_endoscapes(folder().write())
    table = clips(manifest, protocol=Keyframes(), split="test", training=False)
    assert (table.split, set(table.videos.tolist())) == ("test", {"162"})


def test_a_split_without_keyframes_says_so(folder: Callable[[], Folder]) -> None:
    manifest = one_video(folder(), frames=[1000, 1025])
    with pytest.raises(CalotError, match='protocol "keyframes" scores no frame of split "train"'):
        clips(manifest, protocol=Keyframes())


def test_protocols_are_found_by_name_and_a_misspelt_one_names_the_nearest() -> None:
    assert protocol_named("keyframes") == Keyframes()
    assert protocol_named("all-frames") == AllFrames()
    with pytest.raises(CalotError, match='Did you mean "all-frames"'):
        protocol_named("all_frames")


def test_impossible_rules_are_refused_and_a_shortened_one_keeps_its_proportions() -> None:
    with pytest.raises(CalotError, match="pad_to=4 is less than length=16"):
        ClipRule(pad_to=4)
    with pytest.raises(CalotError, match="expected a whole number from 1"):
        ClipRule(length=0)
    assert ClipRule().shortened(0.5) == ClipRule(length=8)
    assert ClipRule(length=5, pad_to=16).shortened(0.5) == ClipRule(length=3, pad_to=8)
    last = ClipRule(length=5, pad_to=16, padding=PadWithLast())
    assert last.shortened(0.5) == ClipRule(length=3, pad_to=8, padding=PadWithLast())


def test_a_clip_may_be_padded_with_its_last_frame_and_keeps_its_order(manifest: Manifest) -> None:
    rule = ClipRule(length=3, pad_to=8, padding=PadWithLast())
    clip = clips(manifest, protocol=Keyframes(), rule=rule).clip(2)
    assert clip.frames == (clip.frame - 50, clip.frame - 25, *[clip.frame] * 6)
    assert rule.labelled_place(Keyframes()) == 2
    assert ClipRule(length=3, pad_to=8).labelled_place(Keyframes()) == 7


@pytest.mark.parametrize("stride", [1, 2])
def test_a_stride_is_in_seconds_whatever_the_rate_of_the_frames(manifest: Manifest, stride: int) -> None:
    """Frames twice as many a second: a clip skips every other one and spans the same time."""
    twice = replace(manifest, numbering=FrameNumbering(per_second=50, step=25))
    rule = ClipRule(length=3, stride=stride)
    one, two = (clips(m, protocol=AllFrames(), rule=rule, training=False) for m in (manifest, twice))
    slow, fast = one.clip_frame_numbers[6], two.clip_frame_numbers[6]
    assert np.diff(slow).tolist() == [25 * stride] * 2
    assert np.diff(fast).tolist() == [50 * stride] * 2


def test_a_stride_between_two_sampled_frames_is_refused(manifest: Manifest) -> None:
    slow = replace(manifest, numbering=FrameNumbering(per_second=5, step=25))
    with pytest.raises(CalotError, match=r"clip\.stride=1 s is not a whole number of sampled frames, .*are 5 s apart"):
        clips(slow, protocol=AllFrames())
    assert clips(slow, protocol=AllFrames(), rule=ClipRule(length=3, stride=5)).frames.shape[1] == 3


@pytest.mark.parametrize("step", [1, 5, 50, 100])
def test_clips_that_show_one_frame_repeated_are_refused_above_half_of_a_split(manifest: Manifest, step: int) -> None:
    wrong = replace(manifest, numbering=FrameNumbering(per_second=step, step=step))
    with pytest.raises(CalotError, match=r"clips of split .* show one frame alone, repeated"):
        clips(wrong, protocol=Keyframes(), rule=ClipRule(length=4))
    assert len(clips(wrong, protocol=Keyframes(), rule=ClipRule(length=1)))


def test_short_videos_are_videos(folder: Callable[[], Folder]) -> None:
    """Half of the clips at the start of their video, padded with its first frame: honest, and taken."""
    made = folder()
    for number in (3, 4, 5):
        made.video(number, split="train", frames=[100, 125, 150], votes={100: NO, 150: NO})
    made.videos = {"train": [3, 4, 5], "val": [], "test": []}
    made.rows = [row for row in made.rows if row[:2] in ("3,", "4,", "5,")]
    table = clips(read_endoscapes(made.write()), protocol=Keyframes(), rule=ClipRule(length=16))
    assert table.distinct().tolist() == [1, 3] * 3


def test_unlabelled_frames_are_seen_and_scored_and_never_trained_on(manifest: Manifest) -> None:
    names = [f"{kind}_{c}" for kind in ("soft", "label") for c in CRITERIA]
    bare = pl.when(pl.col("keyframe")).then(pl.col(names))
    partly = manifest.with_table(manifest.table.with_columns(bare))
    table = clips(partly, protocol=Keyframes(), label=SoftLabel())
    assert table.labels.tolist() == clips(manifest, protocol=Keyframes()).soft.tolist()
    every = clips(partly, protocol=AllFrames(), training=False)
    assert (every.majority[~partly.labelled] == -1).all()
    assert np.isnan(every.soft[~partly.labelled]).all()
    with pytest.raises(CalotError, match="have no label, first video"):
        every.require_labels()
    with pytest.raises(CalotError, match="have no label, first video"):
        clips(partly, protocol=AllFrames())


def test_selected_clips_keep_their_rows(manifest: Manifest) -> None:
    table = clips(manifest, protocol=AllFrames())
    chosen = table.select(np.array([7, 2]))
    assert (len(chosen), chosen.clip(0), chosen.clip(1)) == (2, table.clip(7), table.clip(2))


def test_as_many_clips_as_endoscapes_has_are_cut_in_well_under_a_second(manifest: Manifest) -> None:
    videos = pl.DataFrame({"video": [str(number) for number in range(3058)]})
    large = manifest.with_table(manifest.table.drop("video").join(videos, how="cross"))
    start = time.perf_counter()
    table = clips(large, protocol=AllFrames(), rule=ClipRule(), label=SoftLabel())
    assert len(table) == 36_696
    assert time.perf_counter() - start < 1.0
