"""Clips: which frames, which labels; windows that never leave their run of frames."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from endoscapes_folder import ALL, NO, TWO_OF_THREE_SEE_C2, Folder

from calot.data.clips import (
    AllFrames,
    CentreLabel,
    ClipRule,
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
        StrictLabel(): [0, 1, 0],
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
    assert exactly_half.labels[1].tolist() == [0, 0, 0]


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


def test_selected_clips_keep_their_rows(manifest: Manifest) -> None:
    table = clips(manifest, protocol=AllFrames())
    chosen = table.select(np.array([7, 2]))
    assert (len(chosen), chosen.clip(0), chosen.clip(1)) == (2, table.clip(7), table.clip(2))


def test_as_many_clips_as_endoscapes_has_are_cut_in_well_under_a_second(manifest: Manifest) -> None:
    videos = pl.DataFrame({"video": [str(number) for number in range(3058)]})
    large = Manifest(manifest.table.drop("video").join(videos, how="cross"))
    start = time.perf_counter()
    table = clips(large, protocol=AllFrames(), rule=ClipRule(), label=SoftLabel())
    assert len(table) == 36_696
    assert time.perf_counter() - start < 1.0
