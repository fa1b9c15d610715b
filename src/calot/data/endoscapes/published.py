"""What is published about Endoscapes2023: where it is, under which licence, how much it holds, what it shares."""

from __future__ import annotations

from dataclasses import dataclass

ARCHIVE = "endoscapes.zip"
ARCHIVE_SHA256 = "0574b11a82779a1a0a783e2083627b1140de096e8b7172903e35afb583d75862"
SOURCE = "https://github.com/CAMMA-public/Endoscapes"
LICENCE = "CC BY-NC-SA 4.0"
TERMS = (
    f"Endoscapes2023 (Murali et al., arXiv 2312.12429; CAMMA, University of Strasbourg) is under {LICENCE}: "
    f"non-commercial research, same licence for what is derived from it. Get it from {SOURCE}."
)

HEIGHT, WIDTH = 480, 854
KEYFRAME_STEP = 125
MASKS_PUBLISHED = 493
#: Keyframes known to be black and labelled all the same (about; the archive's own property).
BLACK_KEYFRAMES = 534
#: Masks known to hold the stray class 7.
STRAY_MASKS = 1


@dataclass(frozen=True, kw_only=True)
class SplitSize:
    """A split of the published data set: `first` to `last` are its videos."""

    first: int
    last: int
    frames: int
    keyframes: int

    @property
    def videos(self) -> range:
        return range(self.first, self.last + 1)


SIZES = {
    "train": SplitSize(first=1, last=120, frames=36_694, keyframes=6_960),
    "val": SplitSize(first=121, last=161, frames=12_372, keyframes=2_331),
    "test": SplitSize(first=162, last=201, frames=9_747, keyframes=1_799),
}

#: Video here -> the same operation elsewhere (CAMMA's map of overlaps).
CHOLEC80 = {1: 67, 2: 68, 3: 70, 4: 71, 7: 72, 121: 66}
CHOLECT50 = {2: 68, 3: 70, 10: 96, 33: 110, 121: 66, 127: 103}
