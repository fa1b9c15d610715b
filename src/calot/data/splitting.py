"""Which split each video is in where a data set's authors published none: a table beside it, or a declared draw."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from calot.data.cells import SPLITS_FILE, listed_splits
from calot.data.declared import DECLARED, Declared
from calot.errors import CalotError

#: Share of the videos that a draw puts into each split but train.
HELD = {"val": 0.15, "test": 0.15}


@dataclass(frozen=True)
class VideoSplit:
    """Video -> split, and what was settled to get there (None: a person wrote it down)."""

    of: dict[str, str]
    assumed: str | None


def video_split(root: Path, videos: Iterable[str], *, held: Iterable[str] = tuple(HELD)) -> VideoSplit:
    """The split of each video: from `splits.csv`, else drawn by video with the seed that `dataset.json` declares, or 0.

    `held` are the splits to take from train. Raises CalotError for a video that `splits.csv` leaves out.
    """
    ids, beside = sorted(set(videos)), root / SPLITS_FILE
    if beside.exists():
        listed = listed_splits(beside, remedy="It has a row of video and split for each video.")
        for video in ids:
            if video not in listed:
                raise CalotError(f"{beside}: no row of video {video}. Add one.")
        return VideoSplit(of={video: listed[video] for video in ids}, assumed=None)
    seed, wanted = Declared.of(root).split_seed or 0, tuple(held)
    drawn = drawn_split(ids, seed=seed, held=wanted)
    shares = ", ".join(f"{sum(s == name for s in drawn.values())} {name}" for name in ("train", *wanted))
    said = f'split by video with seed {seed} ({shares}), for none is published: {SPLITS_FILE} or {{"split_seed": N}}'
    return VideoSplit(of=drawn, assumed=f"{said} in {DECLARED} gives another")


def drawn_split(videos: Iterable[str], *, seed: int, held: Iterable[str] = tuple(HELD)) -> dict[str, str]:
    """A split by video that depends on ids and seed alone: the order of SHA-256(seed, id), first those held out.

    Each held split gets its share of the videos, rounded, and one at least.
    """
    order = sorted(set(videos), key=lambda video: hashlib.sha256(f"{seed}\0{video}".encode()).hexdigest())
    split_of: dict[str, str] = {}
    start = 0
    for name in held:
        count = max(1, round(HELD[name] * len(order)))
        split_of |= dict.fromkeys(order[start : start + count], name)
        start += count
    return {video: split_of.get(video, "train") for video in order}
