"""What is published about Endoscapes2023: where it is, under which licence, how much it contains, what it shares."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from calot.data.numbering import FrameNumbering

#: Frames are numbered at 25 per second, with one frame per second: the layout's own numbering.
NUMBERING = FrameNumbering(per_second=25, step=25)

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
#: Keyframes known to be black and labelled anyway (approximate; the archive's own property).
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

#: Of the frame numbers of each video of train and val, in order: what its digest begins with.
_FRAMES = (
    "f879b9 17ea6d e63521 487604 55b2a9 3034a9 87b0ff 1e1b9c 75ad17 43eaea 5edffc ea7183 70c106 ecff06 deefdf e2405d "
    "b42b94 2366c6 b82a5b cbe688 9bf98b 6e7a48 b19100 59bec4 6e15a8 19c360 f67d77 15f20d 9c1d77 829d6f 48d33d 8c63bd "
    "a7388e 22787b 4a6179 aac1ab b06bf9 ccb33f fd875c 21a4ca b58416 fb4eb8 5a388f b10a54 3addfa ca0799 3029bf 437dcb "
    "9f7d74 b0d1d4 d47038 d4389f d36000 56c62f 62bc03 4b1687 8c9eaa 27bec2 eb5842 5f8823 aecb7e 205ae7 2298df f328a6 "
    "a840a9 6cad00 0c5df0 82279b 2c4661 528ada 3c3f3f 18f4ba 6f45fe 3e475d 997890 af3326 0d05e5 3970c9 4b084d 963be6 "
    "18ec63 bdada5 f98c12 671af3 c4e6eb b1715f 7684ab 04cff0 068cd2 633b07 4b262e 3f0f62 28f7aa e98bf4 f5ca6d 34119b "
    "9d134d b00ba0 f8af15 90194f 3ead68 16ac86 f92559 cd4a16 e01d7d e66e08 3038bd 54bca2 c37749 4401b8 6995ae 8eeed3 "
    "175c94 ff5633 756e00 768e62 97b239 ccef95 b08d06 8c6944 b20bb7 250eca e3d863 8ae3e5 ec6bb7 ae5158 b28d3d 929969 "
    "7fa37c 1e10c0 88037a e442eb bd2095 520288 2f4dac 1a72dc b2a8ce e8a888 44953a 7540d9 23d357 b25cca 8b6494 ca521d "
    "023425 15a2bc 0e93e6 c275f0 4d6d36 b6e980 cf3c8c ecde2d b427c3 5095b1 b0e557 b9bf1c 39d6da b497a8 7b3d47 a67823 "
    "4c43ac"
)
_KNOWN = {str(video): digest for video, digest in enumerate(_FRAMES.split(), start=SIZES["train"].first)}


def is_endoscapes(frames: Mapping[str, Iterable[int]]) -> bool:
    """Whether videos, by id, are Endoscapes2023's, in whole or in part: each with exactly its frame numbers.

    For test the numbers are not published: its videos are accepted beside others that match, or alone by their count.
    """
    test = {str(video) for video in SIZES["test"].videos}
    if set(frames) <= test:
        return set(frames) == test and sum(len(list(numbers)) for numbers in frames.values()) == SIZES["test"].frames
    return all(video in test or _digest(numbers) == _KNOWN.get(video) for video, numbers in frames.items())


def resembles_endoscapes(frames: Mapping[str, Iterable[int]]) -> bool:
    """Whether a folder is meant to be Endoscapes2023, though rows or videos may be wrong: half of its videos match."""
    known = [_digest(numbers) == _KNOWN[video] for video, numbers in frames.items() if video in _KNOWN]
    return is_endoscapes(frames) or (bool(known) and 2 * sum(known) >= len(known))


def _digest(frames: Iterable[int]) -> str:
    return hashlib.sha256(",".join(map(str, sorted(frames))).encode()).hexdigest()[:6]
