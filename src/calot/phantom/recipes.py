"""Named phantoms, and the seeds that are spoken for.

A phantom on which two treatments are compared must be one that nobody tuned anything on, so its seed is its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from calot.errors import CalotError
from calot.phantom.spec import PhantomSpec

#: Seed of the study set itself: nothing else may draw from it.
STUDY_SEED = 2203
#: Seed for operations to pretrain on, of the same recipe: no run is scored on it.
PRETRAINING_SEED = 1201
#: Seed for the phantoms that a planted truth is looked for in (docs/explain.md).
PLANTED_SEED = 3304
#: Seed for operations on which the recipe itself was tuned and is tested.
TUNING_SEED = 7

_STUDY = PhantomSpec(
    videos=220,
    seed=STUDY_SEED,
    mean_frames=60.0,
    min_frames=33,
    max_frames=123,
    split_shares=(80 / 220, 120 / 220, 20 / 220),
    pose_spread=0.7,
    mirrored_share=0.25,
    anatomy_spread=1.4,
    zoom_spread=1.6,
    strands=6,
    artery_width=0.75,
    turn_seconds=4.0,
    clipped_share=0.4,
    black_share=0.02,
    outside_share=0.015,
    ignored_share=0.3,
    window_masks=8,
)
#: Operations of the same kind for the encoder that comes with calot: nearly all of them train, and none has a mask.
_PRETRAINING = replace(
    _STUDY,
    videos=110,
    seed=PRETRAINING_SEED,
    split_shares=(90 / 110, 15 / 110, 5 / 110),
    mask_share=0.0,
    window_masks=0,
)
#: For truths planted with further fields: patients much alike, so that a small model learns what is visible, and more
#: operations to look in than to train on, since the video is the unit.
_PLANTED = PhantomSpec(
    videos=64,
    seed=PLANTED_SEED,
    mean_frames=60.0,
    min_frames=33,
    max_frames=123,
    split_shares=(24 / 64, 36 / 64, 4 / 64),
    anatomy_spread=0.2,
    zoom_spread=0.2,
)

RECIPES: Mapping[str, PhantomSpec] = MappingProxyType(
    {"plain": PhantomSpec(), "phantom-study": _STUDY, "phantom-pretraining": _PRETRAINING, "phantom-planted": _PLANTED}
)


def recipe_named(name: str, **changes: Any) -> PhantomSpec:
    """A named phantom with those of its fields changed that are not None. Raises CalotError for an unknown name."""
    if name not in RECIPES:
        raise CalotError(f"recipe={name!r} is not a phantom's name; choose one of {', '.join(RECIPES)}")
    return replace(RECIPES[name], **{field: value for field, value in changes.items() if value is not None})
