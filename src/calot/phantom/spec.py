"""What a phantom data set is asked to be: its size, its seed, and the truths planted in it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from calot.criteria import CRITERIA
from calot.errors import CalotError

VERSION = 1
HEIGHT, WIDTH = 480, 854
FRAME_STEP = 25  # 25-fps frame numbers at 1 fps
KEYFRAME_STEP = 125
SPLITS = ("train", "val", "test")

#: Longest operation of the real tables, in 1-fps frames (val).
LONGEST = 1752
#: Fewest 1-fps frames a video may have: three keyframes, and a tail behind the last one.
FEWEST_FRAMES = 18

NOTICE = "Procedural drawings, not patients: scores on the phantom mean nothing clinically."


@dataclass(frozen=True, kw_only=True)
class PhantomSpec:
    """The whole input of a phantom: equal specs give equal bytes.

    `mean_frames` rescales the real distribution of lengths to that mean (305.8 in real train), then `min_frames` and
    `max_frames` clip it. Knobs plant a known truth: `invisible` hides that criterion's anatomy from the picture and
    the masks while the labels still follow the state. `shortcut` draws a blue marker that agrees with that
    criterion in `shortcut_agreement` of the train keyframe intervals and is independent of it in val and test.
    `biased_rater` (1, 2 or 3) says yes `rater_bias` latent units too soon (too late when negative).
    """

    videos: int = 60
    seed: int = 0
    mean_frames: float = 305.8
    min_frames: int = FEWEST_FRAMES
    max_frames: int = LONGEST
    split_shares: tuple[float, float, float] = (120 / 201, 41 / 201, 40 / 201)
    mask_share: float = 1.0
    jpeg_quality: int = 90
    invisible: str | None = None
    shortcut: str | None = None
    shortcut_agreement: float = 0.95
    biased_rater: int | None = None
    rater_bias: float = 2.0

    def __post_init__(self) -> None:
        if self.videos < len(SPLITS):
            raise CalotError(f"PhantomSpec.videos={self.videos}: three splits need at least 3 videos")
        for name in ("invisible", "shortcut"):
            value = getattr(self, name)
            if value is not None and value not in CRITERIA:
                known = ", ".join(CRITERIA)
                raise CalotError(f"PhantomSpec.{name}={value!r} is not a criterion; choose one of {known}")
        if self.biased_rater not in (None, 1, 2, 3):
            raise CalotError(f"PhantomSpec.biased_rater={self.biased_rater!r}; choose 1, 2, 3 or None")
        for name in ("mask_share", "shortcut_agreement"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise CalotError(f"PhantomSpec.{name}={getattr(self, name)} must lie between 0 and 1")
        if not FEWEST_FRAMES <= self.min_frames <= self.max_frames:
            raise CalotError(
                f"PhantomSpec.min_frames={self.min_frames}, max_frames={self.max_frames}: "
                f"need {FEWEST_FRAMES} <= min_frames <= max_frames"
            )
        if not 0 < self.mean_frames < math.inf:
            raise CalotError(f"PhantomSpec.mean_frames={self.mean_frames} must be positive")
        if self.seed < 0:
            raise CalotError(f"PhantomSpec.seed={self.seed} must not be negative")
        if len(self.split_shares) != len(SPLITS) or min(self.split_shares) <= 0:
            raise CalotError(f"PhantomSpec.split_shares={self.split_shares}: three positive shares, train, val, test")

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self) | {"split_shares": list(self.split_shares)}


@dataclass(frozen=True, kw_only=True)
class PhantomSummary:
    """What was written: videos, 1-fps frames, keyframes and masks in all, and videos by split."""

    videos: int
    frames: int
    keyframes: int
    masks: int
    split_videos: dict[str, int]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)
