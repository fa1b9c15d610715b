"""Where a data set's pixels are: one image file per frame, or videos that are read by time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.data.filenames import frame_files, video_files
from calot.data.numbering import FrameNumbering
from calot.errors import CalotError, first_line

if TYPE_CHECKING:
    import av

#: Between a video's path and a time in it: `videos/a.mp4#t=12.04`, as web addresses have it (seconds).
AT = "#t="

#: Seconds by which times may be off from rounding.
EPSILON = 1e-6

Pixels = NDArray[np.uint8]  # h w 3, RGB
T = TypeVar("T")


class FrameSource(ABC):
    """Reads frames by the names that a manifest's `image` column holds; cheap to pickle."""

    @property
    @abstractmethod
    def decoder(self) -> str:
        """The libraries that pixels depend on: part of a frame store's fingerprint."""

    @abstractmethod
    def file(self, name: str) -> Path:
        """The file that a frame lies in."""

    @abstractmethod
    def read(
        self, names: Sequence[str], *, pool: Executor, each: Callable[[str, Pixels], T]
    ) -> Iterator[T | CalotError]:
        """What `each` makes of every frame and its name, in the order of `names`, in the pool's threads; or why a
        frame cannot be read: missing, cut short, unreadable, past the end of its video."""

    def pictures(self, names: Sequence[str]) -> list[Pixels]:
        """A few frames as they were filmed. Raises CalotError for the first that cannot be read."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            found = list(self.read(names, pool=pool, each=lambda _, image: image))
        for frame in found:
            if isinstance(frame, CalotError):
                raise frame
        return [frame for frame in found if not isinstance(frame, CalotError)]


@dataclass(frozen=True)
class ImageFiles(FrameSource):
    """One picture per frame: JPEG, or PNG of 8 bits."""

    root: Path

    @property
    def decoder(self) -> str:
        from calot.data.decode import DECODER

        return DECODER

    def file(self, name: str) -> Path:
        return self.root / name

    def read(
        self, names: Sequence[str], *, pool: Executor, each: Callable[[str, Pixels], T]
    ) -> Iterator[T | CalotError]:
        return pool.map(partial(self._one, each), names)

    def _one(self, each: Callable[[str, Pixels], T], name: str) -> T | CalotError:
        from calot.data.pictures import decode_picture

        try:
            image = decode_picture(self.root / name)
        except CalotError as error:
            return error
        return each(name, image)


@dataclass(frozen=True)
class VideoFiles(FrameSource):
    """Videos, read by time: the frame at `t` is the one on the screen then, however the file counts its frames.

    Seconds are counted from the start of the stream. Neighbouring names of one video are decoded in one pass.
    """

    root: Path

    @property
    def decoder(self) -> str:
        import av

        codec = ".".join(map(str, av.library_versions["libavcodec"]))
        return f"PyAV {av.__version__}, libavcodec {codec}, upright"

    def file(self, name: str) -> Path:
        return self.root / _at(name)[0]

    def read(
        self, names: Sequence[str], *, pool: Executor, each: Callable[[str, Pixels], T]
    ) -> Iterator[T | CalotError]:
        return chain.from_iterable(pool.map(partial(self._run, each), _passes(names)))

    def _run(self, each: Callable[[str, Pixels], T], names: list[str]) -> list[T | CalotError]:
        found: list[T | CalotError] = []
        frames = frames_at(self.file(names[0]), [_at(name)[1] for name in names])
        while len(found) < len(names):
            try:
                frame = next(frames)
            except CalotError as error:  # what was read before it counts
                return found + [error] * (len(names) - len(found))
            found.append(each(names[len(found)], frame))
        return found


def _passes(names: Sequence[str]) -> list[list[str]]:
    """Cut into parts that one pass over one video gives: a new one where the video changes or time goes back."""
    passes: list[list[str]] = []
    last: tuple[str, float] | None = None
    for name in names:
        file, time = _at(name)
        if last is None or last[0] != file or time < last[1]:
            passes.append([])
        passes[-1].append(name)
        last = file, time
    return passes


def _at(name: str) -> tuple[str, float]:
    file, mark, seconds = name.rpartition(AT)
    if not mark:
        raise CalotError(f"{name}: names no time in a video; write <file>{AT}<seconds>. Read the data set again.")
    return file, float(seconds)


def frames_at(path: Path, times: Sequence[float]) -> Iterator[Pixels]:
    """The frame on the screen at each of some times (seconds, rising) of a video.

    Raises CalotError where the file is not a video, is damaged, or ends before a time.
    """
    with opened_video(path) as (container, stream):
        shown: av.VideoFrame | None = None
        frames = _decoded(container, stream, start=times[0] if times else 0.0)
        ahead = next(frames, None)
        for time in times:
            while ahead is not None and (shown is None or frame_seconds(ahead, stream=stream) <= time + EPSILON):
                shown, ahead = ahead, next(frames, None)
            if shown is None or (ahead is None and time > _end(shown, stream)):
                raise CalotError(f"{path}: has no frame at {time:g} s; it ends before. Take that row out.")
            yield upright(shown)


def upright(frame: av.VideoFrame) -> Pixels:
    """A frame's pixels turned as its file says that they are to be shown (quarter turns)."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))


def video_seconds(path: Path) -> float:
    """A video's duration, as its own header states."""
    with opened_video(path) as (container, stream):
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        if container.duration is not None:
            return container.duration / 1e6
    raise CalotError(f"{path}: does not say how long it is. Write it again as mp4.")


@contextmanager
def opened_video(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """A video and its first stream of pictures; what ffmpeg refuses is an error naming the file."""
    import av

    try:
        # Local files only: a playlist would make ffmpeg fetch what it names.
        with av.open(str(path.resolve()), options={"protocol_whitelist": "file"}) as container:
            if not container.streams.video:
                raise CalotError(f"{path}: holds no video stream. Give a video.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise CalotError(f"{path}: not a readable video ({first_line(error)}). Copy it again.") from error


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream, *, start: float
) -> Iterator[av.VideoFrame]:
    """Frames with a time, from one at or before `start`; from the first where seeking misses."""
    seek_before(container, stream=stream, start=start)
    for frame in container.decode(stream):
        if frame.pts is None:
            raise ValueError("a frame has no time")
        yield frame


def seek_before(container: av.container.InputContainer, *, stream: av.VideoStream, start: float) -> None:
    """Go to where decoding gives every frame from `start` seconds on: to the first frame where seeking misses."""
    if start > 0 and stream.time_base is not None:
        offset = (stream.start_time or 0) + round(start / stream.time_base)
        container.seek(offset, stream=stream, backward=True)
        first = next(container.decode(stream), None)
        missed = first is None or first.pts is None or frame_seconds(first, stream=stream) > start
        container.seek((stream.start_time or 0) if missed else offset, stream=stream, backward=True)


def frame_seconds(frame: av.VideoFrame, *, stream: av.VideoStream) -> float:
    """When a frame appears, in seconds from the start of its stream."""
    assert frame.pts is not None
    assert stream.time_base is not None
    return float((frame.pts - (stream.start_time or 0)) * stream.time_base)


def _end(frame: av.VideoFrame, stream: av.VideoStream) -> float:
    """When the last frame leaves the screen: one usual frame duration after it appeared, if the file does not say."""
    rate = stream.average_rate or stream.guessed_rate
    usual = float(1 / rate) if rate else 0.0
    assert stream.time_base is not None
    own = float(frame.duration * stream.time_base) if frame.duration else 0.0
    return frame_seconds(frame, stream=stream) + max(own, usual) - EPSILON


def sampled_videos(root: Path, folder: str, *, numbering: FrameNumbering) -> pl.DataFrame:
    """One row per frame that is sampled of each video of a folder, from its first on: `video, frame, image`."""
    rows: dict[str, list[Any]] = {"video": [], "frame": [], "image": []}
    for video, name in video_files(root / folder).items():
        length = video_seconds(root / folder / name) * numbering.per_second
        frames = range(0, max(1, math.ceil(length - EPSILON)), numbering.step)
        rows["video"] += [video] * len(frames)
        rows["frame"] += frames
        rows["image"] += [f"{folder}/{name}{AT}{frame / numbering.per_second:.9g}" for frame in frames]
    return pl.DataFrame(rows, schema={"video": pl.String, "frame": pl.Int64, "image": pl.String})


def numbered_images(root: Path, folder: str) -> pl.DataFrame:
    """One row per image of a folder: `video, frame, image`; frames count as the images' names do."""
    rows = [(video, frame, f"{folder}/{name}") for (video, frame), name in frame_files(root / folder).items()]
    return pl.DataFrame(rows, schema={"video": pl.String, "frame": pl.Int64, "image": pl.String}, orient="row")
