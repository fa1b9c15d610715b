"""Small folders of the plain-table kind: `labels.csv` beside short videos or a folder of frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calot.criteria import CRITERIA

HEIGHT, WIDTH = 64, 96


def picture(video: int, second: int) -> NDArray[np.uint8]:
    """A flat grey of its own for every second of every video, so that a frame tells when it was shown."""
    return np.full((HEIGHT, WIDTH, 3), 20 + 9 * (second % 20) + 3 * video, dtype=np.uint8)


def write_video(path: Path, *, video: int, times: Sequence[Fraction], seconds: float | None = None) -> Path:
    """An mp4 whose frames come at `times` (at any rate, also an uneven one), each showing its own whole second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = Fraction(1, 10_000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = stream.time_base = base
        stream.codec_context.gop_size = 7
        for time in times:
            frame = av.VideoFrame.from_ndarray(picture(video, int(time)), format="rgb24")
            frame.pts, frame.time_base = round(time / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def steady(*, seconds: int, rate: int = 10) -> list[Fraction]:
    return [Fraction(i, rate) for i in range(seconds * rate)]


def labels_of(video: int, second: int) -> tuple[int, int, int]:
    """Each criterion is positive in some and negative in other seconds of every video."""
    return tuple(int((second // (k + 2) + video) % 2) for k in range(3))  # type: ignore[return-value]


def write_labels(root: Path, rows: Sequence[dict[str, Any]], *, head: Sequence[str] | None = None) -> Path:
    names = list(head or dict.fromkeys(k for row in rows for k in row))
    lines = [",".join(names), *(",".join(str(row.get(n, "")) for n in names) for row in rows)]
    root.mkdir(parents=True, exist_ok=True)
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def videos_folder(root: Path, *, train: int = 3, val: int = 2, seconds: int = 24, every: int = 3) -> Path:
    """Videos of ten frames a second, labelled every third second by one person."""
    rows = []
    for number in range(1, train + val + 1):
        write_video(root / "videos" / f"op {number}.mp4", video=number, times=steady(seconds=seconds))
        split = "train" if number <= train else "val"
        for second in range(0, seconds, every):
            values = dict(zip(CRITERIA, labels_of(number, second), strict=True))
            rows.append({"video": f"op {number}", "split": split, "time": second, **values})
    return write_labels(root, rows)


def without_labels(root: Path) -> Path:
    """A plain table as nobody has judged it: its criteria's columns are taken away."""
    rows = [row.split(",")[:3] for row in (root / "labels.csv").read_text().splitlines()]
    (root / "labels.csv").write_text("\n".join(map(",".join, rows)) + "\n")
    return root


def frames_folder(root: Path, *, per_second: int = 30, train: int = 3, val: int = 2, seconds: int = 24) -> Path:
    """The same as pictures, one a second, numbered at `per_second`, in a folder of each video."""
    rows = []
    for number in range(1, train + val + 1):
        split = "train" if number <= train else "val"
        for second in range(seconds):
            path = root / "frames" / f"{number:03d}" / f"{second * per_second:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(number, second)).save(path)
            if second % 3 == 0:
                values = dict(zip(CRITERIA, labels_of(number, second), strict=True))
                rows.append({"video": number, "split": split, "frame": second * per_second, **values})
    (root / "dataset.json").write_text(json.dumps({"name": "our-theatre", "frames_per_second": per_second}))
    return write_labels(root, rows)
