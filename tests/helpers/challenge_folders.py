"""Small folders of the exact layouts of the SAGES CVS challenge and of Cholec80-CVS, with real videos and sheets."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import openpyxl
from numpy.typing import NDArray
from PIL import Image

RATERS, LETTERS = (1, 2, 3), ("c1", "c2", "c3")
RATED = tuple(range(0, 2551, 150))
#: How sure the raters are, in every video.
CONFIDENCES = (1.0, 0.5, 0.25)
SIZES = ((64, 96), (96, 128))  # height, width: two of the challenge's seven, made small

Votes = Callable[[int, int, int, int], int]  # video, frame_id, criterion 0-2, rater 1-3
Row = tuple[object, ...]

#: The published sheet's first line.
SHEET = (
    *("video", "initial_minute", "initial_second", "final_minute", "final_second"),
    *("two_structures", "cystic_plate", "hepatocystic_triangle", "total", "critical_view"),
)


def clip_id(number: int) -> str:
    """A video's UUID, the same in every run."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"calot test clip {number}"))


def scene(video: int, second: int, *, size: tuple[int, int] = SIZES[0]) -> NDArray[np.uint8]:
    """A picture of its own for every second: a grey that tells the second, a pattern that tells the video."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    wave = 40 * np.sin(x / (5 + video) + video) * np.cos(y / (4 + video % 5) + second / 9)
    grey = 60 + second + wave
    return np.clip(np.stack([grey + 20, grey, grey - 20], axis=-1), 0, 255).astype(np.uint8)


def film(
    path: Path, *, video: int, seconds: int, rate: int = 30, step: int = 10, size: tuple[int, int] = SIZES[0]
) -> Path:
    """An mp4 at `rate` frames a second of which every `step`th is in the file, each showing its own whole second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = Fraction(1, rate)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        stream.codec_context.time_base = stream.time_base = base
        for number in range(0, seconds * rate, step):
            frame = av.VideoFrame.from_ndarray(scene(video, number // rate, size=size), format="rgb24")
            frame.pts, frame.time_base = number, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def usual_votes(video: int, frame: int, criterion: int, rater: int) -> int:
    """Raters who differ: the third is stricter; each criterion is positive in some rows of every video."""
    place = frame // 150 + video
    return int(place % (criterion + 3) >= (2 if rater == 3 else 1))


def write_sages_labels(
    root: Path, number: int, *, votes: Votes = usual_votes, frames: Sequence[int] = RATED, name: str | None = None
) -> Path:
    """`labels/<uuid>/frame.csv` and `video.csv` as the challenge has them."""
    folder = root / "labels" / (name or clip_id(number))
    folder.mkdir(parents=True, exist_ok=True)
    columns = [f"{letter}_rater{r}" for letter in LETTERS for r in RATERS]
    lines = [",".join(["frame_id", *columns])]
    for frame in frames:
        cells = [votes(number, frame, k, r) for k in range(3) for r in RATERS]
        lines.append(",".join(map(str, [frame, *cells])))
    (folder / "frame.csv").write_text("\n".join(lines) + "\n")
    whole = [max(votes(number, frame, k, r) for frame in frames) for k in range(3) for r in RATERS]
    head = ",".join([*columns, *(f"confidence_rater{r}" for r in RATERS)])
    (folder / "video.csv").write_text(f"{head}\n{','.join(map(str, [*whole, *CONFIDENCES]))}\n")
    return folder


def sages2024(root: Path, *, videos: int = 8, votes: Votes = usual_votes, first: int = 1) -> Path:
    """`videos/<uuid>.mp4` of 90 s at 30 frames a second, in two sizes, and their labels."""
    for number in range(first, first + videos):
        film(root / "videos" / f"{clip_id(number)}.mp4", video=number, seconds=90, size=SIZES[number % 2])
        write_sages_labels(root, number, votes=votes)
    return root


def sages2025(root: Path, *, videos: int = 8, first_number: int = 0, every: int = 15) -> Path:
    """`frames/<uuid>_<frame_id>.jpg` counted from 0 (`first_number` 1: as the organisers' loader expects them)."""
    (root / "frames").mkdir(parents=True)
    for number in range(1, videos + 1):
        for frame in range(0, 2700, every):
            name = f"{clip_id(number)}_{frame + first_number}.jpg"
            Image.fromarray(scene(number, frame // 30)).save(root / "frames" / name, quality=95)
        write_sages_labels(root, number)
    return root


def write_sheet(path: Path, rows: Sequence[Row], *, head: Sequence[str] = SHEET) -> Path:
    """An Excel file of one sheet of segments."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (head, *rows):
        sheet.append(list(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)
    return path


def segment(video: int, first: int, last: int, scores: tuple[int, int, int]) -> Row:
    """A row of the sheet, times in seconds."""
    total = sum(scores)
    return video, first // 60, first % 60, last // 60, last % 60, *scores, total, int(total >= 5)


def cholec80(
    root: Path, *, videos: Sequence[int] = (1, 2, 3, 4, 5, 8, 11), seconds: int = 40, clipping: int = 32
) -> Path:
    """Cholec80's videos, a sheet of segments (criteria positive in turn), the phases, clipping from `clipping` on."""
    rows = []
    for number in videos:
        film(root / "videos" / f"video{number:02d}.mp4", video=number, seconds=seconds, rate=25, step=5)
        rows.append(segment(number, 0, 3, (0, 0, 0)))
        rows += [
            segment(number, 5 * k + 4, 5 * k + 6, tuple(2 if k % 3 == i else k % 2 for i in range(3))) for k in range(5)
        ]
        write_phases(root, number, seconds=seconds, clipping=clipping)
    write_sheet(root / "surgeons_annotations.xlsx", rows)
    return root


def write_phases(root: Path, number: int, *, seconds: int, clipping: int) -> None:
    """`phase_annotations/video01-phase.txt`: a row for every frame, tabs between."""
    phase = ["CalotTriangleDissection" if f < clipping * 25 else "ClippingCutting" for f in range(seconds * 25)]
    lines = ["Frame\tPhase", *(f"{f}\t{name}" for f, name in enumerate(phase))]
    path = root / "phase_annotations" / f"video{number:02d}-phase.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def cholec80_pictures(
    root: Path, *, videos: Sequence[int] = (1, 2, 3, 4, 5, 8, 11), seconds: int = 40, first: int = 1
) -> Path:
    """The same as `frames/video01/video01_000001.png`, one a second, counted from 1 as they are usually extracted."""
    rows = []
    for number in videos:
        for second in range(seconds):
            path = root / "frames" / f"video{number:02d}" / f"video{number:02d}_{second + first:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene(number, second)).save(path)
        rows += [segment(number, 10, 12, (1, 2, 0)), segment(number, 20, 22, (0, 1, 2))]
    write_sheet(root / "cholec80-CVS.xlsx", rows)
    return root
