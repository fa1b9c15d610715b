"""Videos are read by time: the frame on the screen then, at any rate, even or not, wherever reading starts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plain_table import HEIGHT, WIDTH, picture, steady, write_video

from calot.data.numbering import FrameNumbering
from calot.data.sources import AT, ImageFiles, VideoFiles, frames_at, sampled_videos, video_seconds
from calot.errors import CalotError


def seconds_seen(path: Path, times: list[float]) -> list[int]:
    """Which whole second each frame shows, by its grey."""
    return [round((float(frame.mean()) - 23) / 9) for frame in frames_at(path, times)]


@pytest.mark.parametrize("rate", [7, 10, 25, 30])
def test_a_time_gives_the_frame_shown_then_at_any_rate(tmp_path: Path, rate: int) -> None:
    path = write_video(tmp_path / "a.mp4", video=1, times=steady(seconds=12, rate=rate))
    assert seconds_seen(path, [0, 1, 5, 5, 11]) == [0, 1, 5, 5, 11]
    assert seconds_seen(path, [5.5, 9.01, 11.99]) == [5, 9, 11]


@pytest.mark.parametrize("first", [1, 3, 6, 8, 11])
def test_reading_may_start_anywhere(tmp_path: Path, first: int) -> None:
    path = write_video(tmp_path / "a.mp4", video=1, times=steady(seconds=12))
    assert seconds_seen(path, list(range(first, 12))) == list(range(first, 12))


def test_uneven_frames_are_read_by_their_own_times_never_by_counting(tmp_path: Path) -> None:
    """Half the frames fall into the first second: frame 20 of 29.97 a second would be another second altogether."""
    times = [*(Fraction(i, 30) for i in range(30)), *(Fraction(i) for i in range(1, 12, 2))]
    path = write_video(tmp_path / "a.mp4", video=1, times=times)
    assert seconds_seen(path, [0.5, 1, 2, 3.9, 4, 9]) == [0, 1, 1, 3, 3, 9]


def test_a_time_past_the_end_is_an_error_and_what_came_before_is_read(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", video=1, times=steady(seconds=4))
    names = [f"a.mp4{AT}{second}" for second in (0, 3, 4, 9)]
    with ThreadPoolExecutor(2) as pool:
        found = list(VideoFiles(tmp_path).read(names, pool=pool, each=lambda name, image: image.shape))
    assert found[:2] == [(HEIGHT, WIDTH, 3)] * 2
    assert all("has no frame at" in str(error) for error in found[2:])


def test_clips_that_go_back_in_time_and_to_other_videos_are_read_in_order(tmp_path: Path) -> None:
    for video in (1, 2):
        write_video(tmp_path / f"{video}.mp4", video=video, times=steady(seconds=9))
    asked = [(1, 4), (1, 5), (1, 2), (1, 2), (2, 8), (1, 7)]
    frames = VideoFiles(tmp_path).pictures([f"{video}.mp4{AT}{second}" for video, second in asked])
    for frame, (video, second) in zip(frames, asked, strict=True):
        np.testing.assert_allclose(frame, picture(video, second), atol=3)


def test_a_video_is_sampled_from_its_first_frame_to_its_last(tmp_path: Path) -> None:
    write_video(tmp_path / "v" / "Op 7.MP4", video=1, times=steady(seconds=5))
    assert video_seconds(tmp_path / "v" / "Op 7.MP4") == pytest.approx(5, abs=0.2)
    every = sampled_videos(tmp_path, "v", numbering=FrameNumbering(30, 30))
    assert every.rows() == [("Op 7", 30 * s, f"v/Op 7.MP4{AT}{s}") for s in range(5)]
    assert len(VideoFiles(tmp_path).pictures(every["image"].to_list())) == 5
    twice = sampled_videos(tmp_path, "v", numbering=FrameNumbering(1000, 500))
    assert [frame for _, frame, _ in twice.rows()] == list(range(0, 5000, 500))


@pytest.mark.parametrize("data", [b"", b"not a video", b"\x00\x00\x00\x20ftypisom" + bytes(100)])
def test_what_is_no_video_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(CalotError, match=r"a\.mp4: "):
        list(frames_at(tmp_path / "a.mp4", [0.0]))


def test_a_playlist_fetches_nothing(tmp_path: Path) -> None:
    write_video(tmp_path / "other.mp4", video=1, times=steady(seconds=2))
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / "a.mp4").write_text(playlist)
    with pytest.raises(CalotError, match=r"a\.mp4: not a readable video"):
        list(frames_at(tmp_path / "a.mp4", [0.0]))


def test_a_damaged_video_is_an_error_naming_the_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", video=1, times=steady(seconds=20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CalotError, match=r"a\.mp4: "):
        list(frames_at(path, [0.0, 19.0]))


def test_a_png_is_read_as_it_is_and_other_kinds_are_refused(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "a.PNG", format="PNG")
    assert (ImageFiles(tmp_path).pictures(["a.PNG"])[0] == grey[..., None]).all()
    Image.fromarray(grey.astype(np.int32) * 9).convert("I;16").save(tmp_path / "deep.png")
    Image.fromarray(grey).convert("RGBA").save(tmp_path / "clear.png")
    for name in ("deep.png", "clear.png"):
        with pytest.raises(CalotError, match="Write it again as RGB of 8 bits"):
            ImageFiles(tmp_path).pictures([name])
