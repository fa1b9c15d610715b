"""Key moments on changes whose quantiles are known, and frame change on pictures made here."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from calot.data.clip_rules import ClipRule, KeyMoments, PadWithLast, Surroundings
from calot.data.clips import AllFrames, CentreLabel, Keyframes, build_clips
from calot.data.frame_change import frame_change
from calot.data.readers import open_folder
from calot.errors import CalotError


def _steps(change: NDArray[np.float64], *, row: int, **fields: object) -> list[int]:
    around = Surroundings(
        row=np.array([row]), stride=1, before=0, oldest=np.array([row]), newest=np.array([0]), change=change
    )
    return KeyMoments(**fields).steps(around)[0].tolist()


def test_steady_change_gives_evenly_spaced_frames() -> None:
    assert _steps(np.ones(50), row=40, length=5, window=41) == [-40, -30, -20, -10, 0]


def test_change_at_one_time_takes_most_places() -> None:
    change = np.zeros(60)
    change[21:31] = 1.0
    steps = _steps(change, row=50, length=6, window=51)
    assert steps[-1] == 0
    assert [50 + s for s in steps[:-1]] == [0, 22, 24, 26, 28]


def test_a_still_is_spread_evenly_and_a_short_past_repeats_its_oldest_frame() -> None:
    assert _steps(np.zeros(50), row=40, length=5, window=41) == [-40, -30, -20, -10, 0]
    assert _steps(np.ones(50), row=2, length=5, window=8) == [-2, -2, -2, -1, 0]


def test_each_frame_is_shown_once_where_there_are_enough() -> None:
    change = np.zeros(60)
    change[30] = 1.0  # one jump: every quantile falls on it
    steps = _steps(change, row=40, length=6, window=41)
    assert len(set(steps)) == 6
    assert steps == sorted(steps)


def test_nothing_after_the_labelled_frame_is_looked_at() -> None:
    draw = np.random.default_rng(0)
    change = draw.random(80)
    later = change.copy()
    later[51:] = draw.random(29)
    assert _steps(change, row=50, length=8, window=40) == _steps(later, row=50, length=8, window=40)


@pytest.mark.parametrize("protocol", [Keyframes(), AllFrames()])
def test_the_labelled_frame_is_last_under_either_protocol(protocol: object) -> None:
    assert KeyMoments(length=4, window=8).labelled_place(protocol) == 3
    assert KeyMoments(length=4, window=8, pad_to=6, padding=PadWithLast()).labelled_place(protocol) == 3


def test_a_rule_without_its_changes_and_a_window_too_short_are_refused() -> None:
    with pytest.raises(CalotError, match="shorter than length"):
        KeyMoments(length=16, window=8)


def test_at_tiny_scale_window_and_length_shrink_together() -> None:
    assert KeyMoments(length=16, window=64).shortened(0.5) == KeyMoments(length=8, window=32)


def test_frame_change_is_that_of_the_pictures_and_zero_at_a_videos_start(phantom: Path, tmp_path: Path) -> None:
    folder = open_folder(phantom)
    part = folder.manifest.split("val")
    calls = []

    def found() -> NDArray[np.float64]:
        return frame_change(phantom, part, frames=folder.frames, advance=lambda *_: calls.append(1), cache=tmp_path)

    change = found()
    images = part.table["image"].to_list()
    small = [Image.open(phantom / name).convert("L").resize((32, 32), Image.Resampling.BOX) for name in images[:3]]
    first, second, third = (np.asarray(x, dtype=np.float64) / 255 for x in small)
    assert change[1:3] == pytest.approx([np.abs(second - first).mean(), np.abs(third - second).mean()], abs=2e-3)
    videos = np.asarray(part.videos)
    starts = np.flatnonzero(videos[1:] != videos[:-1]) + 1
    assert len(starts)
    assert not change[[0, *starts]].any()
    assert change.max() > 0
    before = len(calls)
    assert np.array_equal(found(), change)
    assert len(calls) == before  # read back, not found again


def test_clips_of_key_moments_stay_in_their_video_and_end_on_the_labelled_frame(phantom: Path) -> None:
    manifest = open_folder(phantom).manifest
    part = manifest.split("val")
    change = np.random.default_rng(1).random(len(part))
    common = {"split": "val", "protocol": Keyframes(), "label_rule": CentreLabel(), "training": False}
    table = build_clips(manifest, rule=KeyMoments(length=4, window=20), change=change, **common)
    videos = np.asarray(part.videos)
    assert (videos[table.frames] == videos[table.row][:, None]).all()
    assert (table.frames[:, -1] == table.row).all()
    assert (np.diff(table.frames, axis=1) >= 0).all()
    with pytest.raises(CalotError, match="needs to know how much frames change"):
        build_clips(manifest, rule=KeyMoments(length=4, window=20), **common)
    assert not np.array_equal(table.frames, build_clips(manifest, rule=ClipRule(length=4), **common).frames)
