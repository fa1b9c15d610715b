"""How a data set numbers its frames: numbers per second, and numbers from one sampled frame to the next."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calot.errors import CalotError

#: How far a spacing may be from a whole number of sampled frames: 30 numbers at 29.97 per second are one second.
_SLACK = 0.02


@dataclass(frozen=True)
class FrameNumbering:
    """`per_second` numbers pass in a second of video; the sampled frames, those of a manifest, are `step` apart."""

    per_second: float
    step: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.per_second) and self.per_second > 0 and self.step >= 1):
            raise CalotError(
                f"frames_per_second={self.per_second}, step={self.step}: give how many frame numbers pass in a second "
                "(more than 0) and how far apart sampled frames are (1 or more)."
            )

    @property
    def seconds_apart(self) -> float:
        """Time between one sampled frame and the next."""
        return self.step / self.per_second

    def frames_in(self, seconds: float) -> int:
        """A time in seconds as a number of sampled frames. Raises CalotError where that is not a whole number."""
        exact = seconds / self.seconds_apart
        count = round(exact)
        if count < 1 or abs(exact - count) > _SLACK * count:
            raise CalotError(
                f"clip.stride={seconds:g} s is not a whole number of sampled frames, which are {self.seconds_apart:g} "
                f"s apart (step {self.step} at {self.per_second:g} numbers per second). Use a multiple of that, or "
                "sample the videos again."
            )
        return count

    def __str__(self) -> str:
        every = "every number" if self.step == 1 else f"every {self.step}th number"
        return f"{self.per_second:g} frame numbers per second, {every} sampled ({self.seconds_apart:g} s apart)"


def found_step(videos: Sequence[str], frames: NDArray[np.int64]) -> int | None:
    """The commonest distance between neighbouring frames of one video; None where no video has two frames."""
    counts: Counter[int] = Counter()
    for numbers in _by_video(videos, frames).values():
        counts.update(np.diff(numbers).tolist())
    counts.pop(0, None)
    return max(counts, key=lambda step: (counts[step], -step)) if counts else None


def found_numbering(
    videos: Sequence[str], frames: NDArray[np.int64], *, per_second: float, where: Path
) -> FrameNumbering:
    """The step that frame numbers show, at a known rate; one per second where no video has two frames.

    Raises CalotError naming a video in which most steps are not a multiple of it: it is numbered another way.
    """
    step = found_step(videos, frames) or max(1, round(per_second))
    wrong = {}
    for video, numbers in _by_video(videos, frames).items():
        steps = np.diff(numbers)
        if 2 * int((steps % step != 0).sum()) > len(steps):
            wrong[video] = Counter(steps.tolist()).most_common(1)[0][0]
    if wrong:
        video, own = next(iter(wrong.items()))
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise CalotError(
            f"{where}: frame numbers rise by {step}, but by {own} in video {video}{more}. Number all videos alike, or "
            "keep these apart."
        )
    return FrameNumbering(per_second=per_second, step=step)


def _by_video(videos: Sequence[str], frames: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    names = np.asarray(videos)
    order = np.lexsort((frames, names))
    names, numbers = names[order], frames[order]
    cuts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    return {str(names[start]): numbers[start:end] for start, end in pairwise(cuts) if end > start}
