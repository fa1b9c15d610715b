"""What one frame and what a window of frames says: of the true masks (oracles), and of colour, thumbnails, pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from calot.errors import CalotError
from calot.phantom.anatomy import GALLBLADDER, TRIANGLE
from calot.phantom.probes import PICTURE_PROBES, Floats, mask_features
from calot.phantom.spec import FRAME_STEP

TIME, MASKS = "time alone", "true masks"
ONE, WINDOW = "one frame", "window"
#: Fewer pixels than this between two bands are not counted as a gap.
_GAP = 40


@dataclass(frozen=True, kw_only=True)
class Window:
    """One labelled frame and those before it: video, place (seconds since the first frame), split's folder, the frames'
    25-fps numbers (the labelled one last) and the majority labels."""

    video: int
    seconds: int
    folder: Path
    numbers: tuple[int, ...]
    labels: tuple[int, int, int]

    @property
    def stems(self) -> list[str]:
        """The files' names without their endings."""
        return [f"{self.video}_{number}" for number in self.numbers]


def window_numbers(number: int, *, first: int, length: int) -> tuple[int, ...]:
    """The last `length` 25-fps frame numbers up to `number`, fewer where the video begins."""
    start = max(number - FRAME_STEP * (length - 1), first)
    return tuple(range(start, number + 1, FRAME_STEP))


def window_features(windows: Sequence[Window], *, truth: Path, workers: int) -> dict[str, Floats]:
    """Feature tables by `name, ONE|WINDOW` and of time alone, one row per window.

    `truth` is the folder of every frame's mask. A window of pictures is summed up by its last frame, mean, least and
    greatest; one of masks also by the means of its two poses, told apart by where the gallbladder lies.
    """
    stems = {stem: window.folder for window in windows for stem in window.stems}
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        rows = dict(zip(stems, pool.map(partial(_frame, truth=truth), stems, stems.values()), strict=True))
    found = {TIME: np.asarray([[w.seconds] for w in windows], np.float32)}
    for name in (*PICTURE_PROBES, MASKS):
        frames = [np.stack([rows[stem][name] for stem in window.stems]) for window in windows]
        found[f"{name}, {ONE}"] = np.stack([f[-1] for f in frames])
        found[f"{name}, {WINDOW}"] = np.stack([_summed(f) for f in frames])
    found[f"{MASKS}, {WINDOW}"] = np.stack(
        [
            np.concatenate([summed, _poses([rows[stem][MASKS] for stem in window.stems])])
            for summed, window in zip(found[f"{MASKS}, {WINDOW}"], windows, strict=True)
        ]
    )
    return found


def _frame(stem: str, folder: Path, *, truth: Path) -> dict[str, Floats]:
    picture = simplejpeg.decode_jpeg((folder / f"{stem}.jpg").read_bytes(), colorspace="RGB")
    mask = cv2.imread(str(truth / f"{stem}.png"), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise CalotError(f"mask {truth / f'{stem}.png'} cannot be read; the audit of windows needs mask_share=1")
    found = {name: probe(picture) for name, probe in PICTURE_PROBES.items()}
    return found | {MASKS: structure_features(np.asarray(mask, np.uint8))}


def structure_features(mask: NDArray[np.uint8]) -> Floats:
    """What a true mask says: `mask_features`, the gallbladder's centre, and how the triangle is crossed: gaps between
    its bands, and its share of its convex hull. The centre's x comes first (0.5 without a gallbladder)."""
    rows, columns = np.nonzero(mask == GALLBLADDER)
    centre = (columns.mean() / mask.shape[1], rows.mean() / mask.shape[0]) if len(rows) else (0.5, 0.5)
    open_triangle = (mask == TRIANGLE).astype(np.uint8)
    count, _, sizes, _ = cv2.connectedComponentsWithStats(open_triangle, connectivity=4)
    gaps = int((sizes[1:count, cv2.CC_STAT_AREA] >= _GAP).sum())
    hull = 0.0
    if open_triangle.any():
        points = cv2.findNonZero(open_triangle)
        hull = float(cv2.contourArea(cv2.convexHull(points)))
    solid = float(open_triangle.sum()) / max(hull, 1.0)
    own = np.asarray((*centre, gaps, solid, hull / mask.size), np.float32)
    return np.concatenate([own, mask_features(mask)])


def _summed(frames: Floats) -> Floats:
    return np.concatenate([frames[-1], frames.mean(axis=0), frames.min(axis=0), frames.max(axis=0)])


def _poses(frames: Iterable[Floats]) -> Floats:
    """The lesser and the greater of the two poses' means, by feature, and the latest frame of each pose."""
    table = np.stack(list(frames))
    x = table[:, 0]
    left = x <= (x.min() + x.max()) / 2
    if x.max() - x.min() < 0.05 or left.all():
        left = np.ones(len(x), dtype=bool)
    groups = [table[left], table[~left] if (~left).any() else table[left]]
    means, last = [g.mean(axis=0) for g in groups], [g[-1] for g in groups]
    return np.concatenate([np.minimum(*means), np.maximum(*means), np.minimum(*last), np.maximum(*last)])
