"""Recordings of phantom operations, written as theatres' recorders might: any rate, any codec, with faults planted."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
TICK = Fraction(1, 1000)
#: MP4 whose pixels come back as they went in.
LOSSLESS: dict[str, Any] = {"codec": "libx264rgb", "pixels": "rgb24", "options": {"qp": "0", "preset": "ultrafast"}}
LOSSY: dict[str, Any] = {"codec": "libx264", "pixels": "yuv420p", "options": {"crf": "23", "preset": "ultrafast"}}
WEBM: dict[str, Any] = {"codec": "libvpx", "pixels": "yuv420p", "options": {"deadline": "realtime", "cpu-used": "8"}}


def pictures_of(root: Path, video: str) -> tuple[list[int], list[Picture]]:
    """Frame numbers and frames of an operation in the Endoscapes layout, in order of time."""
    files = {int(path.stem.split("_")[1]): path for path in root.glob(f"*/{video}_*.jpg")}
    return sorted(files), [np.asarray(Image.open(files[number])) for number in sorted(files)]


def blended(pictures: Sequence[Picture], *, rate: int, start: float = 0.0) -> list[tuple[float, Picture]]:
    """`rate` frames a second that lead from each second's picture to the next; whole seconds show them as they are."""
    shown = []
    for second, picture in enumerate(pictures):
        after = pictures[min(second + 1, len(pictures) - 1)]
        for part in range(rate):
            share = np.float32(part / rate)
            mixed = picture + share * (after.astype(np.float32) - picture)
            shown.append((start + second + part / rate, mixed.astype(np.uint8)))
    return shown


def record(
    path: Path,
    shown: Iterable[tuple[float, Picture]],
    *,
    codec: str,
    pixels: str,
    options: dict[str, str],
    tags: dict[str, str] | None = None,
    gop: int = 12,
) -> Path:
    """Write frames at their times (seconds), however they are spaced; the first must come at 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "+use_metadata_tags"} if path.suffix == ".mp4" else {}) as made:
        made.metadata.update(tags or {})
        stream: Any = None
        for time, picture in shown:
            if stream is None:
                stream = made.add_stream(codec, rate=30, options=options)
                stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], pixels
                stream.codec_context.time_base = stream.time_base = TICK
                stream.codec_context.gop_size = gop
                stream.metadata.update(tags or {})
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(time / TICK), TICK
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return path


def turn(path: Path) -> Path:
    """Mark an MP4 as filmed with the camera turned: players show it turned by 90 degrees clockwise."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: version, times, id, duration, layer, volume, then the matrix
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    return path
