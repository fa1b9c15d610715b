"""A recording as it is decoded, once: frames in the order of their times, and what of it cannot be decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calot.data.sources import EPSILON, Pixels, frame_seconds, opened_video, seek_before, upright

if TYPE_CHECKING:
    import av

#: A frame's brightness is thinned to about so many rows, to see cheaply whether the picture changed.
_LUMA_ROWS = 32


@dataclass(frozen=True, eq=False)
class SeenFrame:
    """A decoded frame: when it appears and for how long its file says (seconds), a thinned grid of its brightness."""

    time: float
    length: float
    luma: NDArray[np.uint8] = field(repr=False)
    size: tuple[int, int]  # height, width, as stored
    rotation: int  # degrees counterclockwise by which it is to be turned
    interlaced: bool
    corrupt: bool
    _frame: av.VideoFrame = field(repr=False)

    @classmethod
    def of(cls, frame: av.VideoFrame, *, stream: av.VideoStream) -> SeenFrame:
        assert stream.time_base is not None
        return cls(
            time=round(frame_seconds(frame, stream=stream), 6),
            length=float(frame.duration * stream.time_base) if frame.duration else 0.0,
            luma=_luma(frame),
            size=(frame.height, frame.width),
            rotation=int(frame.rotation),
            interlaced=bool(frame.interlaced_frame),
            corrupt=bool(frame.is_corrupt),
            _frame=frame,
        )

    def pixels(self) -> Pixels:
        """The whole frame, upright, `h w 3` RGB."""
        return upright(self._frame)


@dataclass(frozen=True)
class Undecodable:
    """Where a part of the file could not be decoded: after the frame at `time` (seconds; 0 before the first)."""

    time: float


def decoded_recording(path: Path, *, after: float | None = None) -> Iterator[SeenFrame | Undecodable]:
    """Every frame of a video whose time comes after the one before it; those from `after` seconds on, that one too.

    What cannot be decoded is passed over and said. Raises CalotError where the file is not a video at all.
    """
    import av

    with opened_video(path) as (container, stream):
        seek_before(container, stream=stream, start=after or 0.0)
        last = -1.0 if after is None else after - 2 * EPSILON
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
                frames = packet.decode()
            except StopIteration:
                return
            except (av.error.InvalidDataError, av.error.EOFError):
                yield Undecodable(max(last, 0.0))
                continue
            for frame in frames:
                if frame.pts is None:
                    yield Undecodable(max(last, 0.0))
                    continue
                seen = SeenFrame.of(frame, stream=stream)
                if seen.time > last:
                    last = seen.time
                    yield seen


def stated_seconds(path: Path) -> float | None:
    """How long a file says that its pictures last; None where it does not say."""
    with opened_video(path) as (container, stream):
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return None if container.duration is None else container.duration / 1e6


def _luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Brightness on a thinned grid, from the first plane where that is brightness."""
    kind, bits = frame.format.name, frame.format.components[0].bits
    if not kind.startswith(("yuv", "nv", "gray", "p0")) or kind in ("yuyv422", "yuv411p_packed") or bits > 16:
        frame, bits = frame.reformat(format="gray"), 8
    plane, step = frame.planes[0], max(1, frame.height // _LUMA_ROWS)
    kind_of: Any = "<u2" if bits > 8 else np.uint8
    rows = np.frombuffer(memoryview(plane), dtype=kind_of).reshape(plane.height, -1)[::step, : frame.width : step]
    return np.asarray(rows >> (bits - 8), dtype=np.uint8).copy()
