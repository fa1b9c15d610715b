"""What a phantom data set is asked to be: its size, its seed, and the truths planted in it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from calot.criteria import CRITERIA
from calot.errors import CalotError

VERSION = 1
HEIGHT, WIDTH = 480, 854
FRAME_STEP = 25  # 25-fps frame numbers at 1 fps
KEYFRAME_STEP = 125
SPLITS = ("train", "val", "test")
#: Folder of the true masks of a keyframe's window, for the audit alone: no part of the Endoscapes layout.
TRUTH = "truth"
#: Folder that says where each frame shows the shortcut's marker: no part of the layout either.
CUE = "cue"

#: Longest operation of the real tables, in 1-fps frames (val).
LONGEST = 1752
#: Fewest 1-fps frames a video may have: three keyframes, and a tail behind the last one.
FEWEST_FRAMES = 18

NOTICE = "Procedural drawings, not patients: scores on the phantom mean nothing clinically."


#: Fields that are shares from 0 to 1, and those that are amounts; all were added later, and are described if set.
SHARES = ("mirrored_share", "clipped_share", "black_share", "outside_share", "ignored_share")
NOT_NEGATIVE = (
    *("pose_spread", "anatomy_spread", "zoom_spread", "strands"),
    *("artery_width", "turn_seconds", "window_masks", "rater_spread"),
)
HARDER = frozenset((*SHARES, *NOT_NEGATIVE))
#: Fields that were added later and are described if set.
ADDED = HARDER | {"shortcut_elsewhere", "shortcut_places", "shortcut_size"}


@dataclass(frozen=True, kw_only=True)
class PhantomSpec:
    """The whole input of a phantom: equal specs give equal bytes.

    `mean_frames` rescales the real distribution of lengths to that mean (305.8 in real train), then `min_frames` and
    `max_frames` clip it. Knobs plant a known truth: `invisible` hides that criterion's anatomy from the picture and
    the masks while the labels still follow the state. `shortcut` draws a blue marker that agrees with that
    criterion in `shortcut_agreement` of the train keyframe intervals and is independent of it in val and test, or
    agrees in `shortcut_elsewhere` of the intervals there. It is `shortcut_size` times as long and wide as 58 x 34
    pixels; `shortcut_places` writes where each frame shows it to `cue/`.
    `biased_rater` (1, 2 or 3) says yes `rater_bias` latent units too soon (too late when negative).

    The fields from `pose_spread` on make a phantom harder, and at their defaults change nothing. `pose_spread` turns
    and slants the camera of each operation, `mirrored_share` of them are seen in a mirror; `anatomy_spread` and
    `zoom_spread` scale how patients differ and how far the camera moves within a video. `strands` thin bands cross the
    triangle and are cut last; `artery_width` scales the artery. Every `turn_seconds` (0: never) the gallbladder is
    turned over: each criterion has two sides, a frame shows one, and raters judge the worse of both as last seen.
    `clipped_share` of operations have metal clips late; about `black_share` and `outside_share` of all frames are black
    or out of the body. `ignored_share` of the masks have undecided pixels (class 255). The true masks of
    the last `window_masks` frames up to each masked keyframe are written to `truth/`, for the oracle of a window.
    `rater_spread` scales how far the raters' habits are apart: at 0 they differ in their doubts alone.
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
    pose_spread: float = 0.0
    mirrored_share: float = 0.0
    anatomy_spread: float = 1.0
    zoom_spread: float = 1.0
    strands: int = 0
    artery_width: float = 1.0
    turn_seconds: float = 0.0
    clipped_share: float = 0.0
    black_share: float = 0.0
    outside_share: float = 0.0
    ignored_share: float = 0.0
    window_masks: int = 0
    shortcut_elsewhere: float | None = None
    shortcut_places: bool = False
    rater_spread: float = 1.0
    shortcut_size: float = 1.0

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
        for name in ("mask_share", "shortcut_agreement", *SHARES):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise CalotError(f"PhantomSpec.{name}={getattr(self, name)} must lie between 0 and 1")
        if self.shortcut_elsewhere is not None and not 0.0 <= self.shortcut_elsewhere <= 1.0:
            raise CalotError(f"PhantomSpec.shortcut_elsewhere={self.shortcut_elsewhere} must lie between 0 and 1")
        if not 0.25 <= self.shortcut_size <= 6.0:
            raise CalotError(f"PhantomSpec.shortcut_size={self.shortcut_size} must lie between 0.25 and 6")
        if self.shortcut is None and (self.shortcut_places or self.shortcut_elsewhere is not None):
            name = "shortcut_places" if self.shortcut_places else "shortcut_elsewhere"
            raise CalotError(f"PhantomSpec.{name} needs a shortcut: name the criterion that the marker gives away")
        if not FEWEST_FRAMES <= self.min_frames <= self.max_frames:
            raise CalotError(
                f"PhantomSpec.min_frames={self.min_frames}, max_frames={self.max_frames}: "
                f"need {FEWEST_FRAMES} <= min_frames <= max_frames"
            )
        if not 0 < self.mean_frames < math.inf:
            raise CalotError(f"PhantomSpec.mean_frames={self.mean_frames} must be positive")
        for name in NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise CalotError(f"PhantomSpec.{name}={getattr(self, name)} must not be negative")
        if self.seed < 0:
            raise CalotError(f"PhantomSpec.seed={self.seed} must not be negative")
        if len(self.split_shares) != len(SPLITS) or min(self.split_shares) <= 0:
            raise CalotError(f"PhantomSpec.split_shares={self.split_shares}: three positive shares, train, val, test")

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values, without the added ones that stand at their defaults."""
        plain = {f.name for f in fields(self) if f.name in ADDED and getattr(self, f.name) == f.default}
        given = {name: value for name, value in asdict(self).items() if name not in plain}
        return given | {"split_shares": list(self.split_shares)}


@dataclass(frozen=True, kw_only=True)
class PhantomSummary:
    """What was written: videos, 1-fps frames, keyframes and masks in all, videos by split, and what is special."""

    videos: int
    frames: int
    keyframes: int
    masks: int
    split_videos: dict[str, int]
    seconds: float
    special: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values; `special` only where there is any."""
        found = asdict(self)
        return found if self.special else {name: value for name, value in found.items() if name != "special"}
