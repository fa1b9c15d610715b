"""What is particular to one operation beside its state: camera's pose, patient, black and out-of-body frames, clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calot.phantom.labels import stream
from calot.phantom.layout import ORDINARY, Variety
from calot.phantom.plan import VideoPlan
from calot.phantom.spec import PhantomSpec

#: What a frame shows.
INSIDE, BLACK, OUTSIDE = 0, 1, 2
#: Seconds that a black or out-of-body spell lasts.
SPELL_SECONDS = (2, 7)
#: Clips are laid in this last share of the operation.
CLIPPED_FROM = (0.72, 0.90)
#: At a pose spread of 1: standard deviation of the camera's roll in degrees, and of how far it looks aslant.
_ROLL, _ASLANT = 14.0, 0.10


@dataclass(frozen=True)
class Staging:
    """One operation's staging. `pose` turns screen into scene directions (None: as it is), `roll` is its angle in
    radians, `shows` what each frame shows, `clipped` the frames with clips, `ignored` those whose masks have 255."""

    variety: Variety = ORDINARY
    pose: NDArray[np.float64] | None = None
    roll: float = 0.0
    mirrored: bool = False
    shows: NDArray[np.int8] | None = None
    clipped: NDArray[np.bool_] | None = None
    ignored: NDArray[np.bool_] | None = None


PLAIN = Staging()


def _spells(rng: np.random.Generator, *, n: int, share: float) -> NDArray[np.bool_]:
    """Frames of about that share, in spells."""
    lasting = rng.integers(SPELL_SECONDS[0], SPELL_SECONDS[1] + 1, size=n)
    starts = np.flatnonzero(rng.uniform(size=n) < share / (sum(SPELL_SECONDS) / 2))
    shown = np.zeros(n, dtype=bool)
    for start in starts:
        shown[start : start + lasting[start]] = True
    return shown


def draw_staging(plan: VideoPlan, *, spec: PhantomSpec) -> Staging:
    """One video's staging; without any of the spec's fields for it, the plain one."""
    rng = stream(spec, video=plan.video, purpose=5)
    n = plan.frames
    roll, shear, squeeze = rng.standard_normal(3) * spec.pose_spread
    mirrored = bool(rng.uniform() < spec.mirrored_share)
    black, outside = (_spells(rng, n=n, share=share) for share in (spec.black_share, spec.outside_share))
    begins = rng.uniform(*CLIPPED_FROM) if rng.uniform() < spec.clipped_share else np.inf
    ignored = rng.uniform(size=n) < spec.ignored_share
    angle = float(np.deg2rad(_ROLL * np.clip(roll, -2, 2)))
    aslant = np.array(((1.0 + _ASLANT * np.clip(squeeze, -2, 2), _ASLANT * np.clip(shear, -2, 2)), (0.0, 1.0)))
    turn = np.array(((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))))
    return Staging(
        variety=Variety(
            anatomy=spec.anatomy_spread, zoom=spec.zoom_spread, strands=spec.strands, artery=spec.artery_width
        ),
        pose=aslant @ turn if spec.pose_spread else None,
        roll=angle,
        mirrored=mirrored,
        shows=np.where(black, BLACK, np.where(outside, OUTSIDE, INSIDE)).astype(np.int8),
        clipped=(np.arange(n) + 0.5) / n >= begins,
        ignored=ignored,
    )


def special_counts(plans: Sequence[VideoPlan], *, spec: PhantomSpec) -> dict[str, int]:
    """How many frames, keyframes and videos the staging makes special; nothing where the spec asks for nothing."""
    if not any((spec.black_share, spec.outside_share, spec.clipped_share, spec.mirrored_share)):
        return {}
    counts: Counter[str] = Counter()
    for plan in plans:
        staging = draw_staging(plan, spec=spec)
        assert staging.shows is not None
        assert staging.clipped is not None
        for name, kind in (("black", BLACK), ("outside", OUTSIDE)):
            counts[f"{name}_frames"] += int((staging.shows == kind).sum())
            counts[f"{name}_keyframes"] += int((staging.shows[plan.keyframes] == kind).sum())
        counts["clipped_videos"] += bool(staging.clipped.any())
        counts["mirrored_videos"] += staging.mirrored
    return dict(counts)
