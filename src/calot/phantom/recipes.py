"""Named phantoms, and the seeds that are spoken for.

A phantom on which two treatments are compared must be one that nobody tuned anything on, so its seed is its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from calot.errors import CalotError
from calot.phantom.spec import PhantomSpec

#: Seed of the study set itself: nothing else may draw from it.
STUDY_SEED = 2203
#: Seed for operations to pretrain on, of the same recipe: no run is scored on it.
PRETRAINING_SEED = 1201
#: Seed for operations on which the recipe itself was tuned and is tested.
TUNING_SEED = 7

RECIPES: Mapping[str, PhantomSpec] = MappingProxyType(
    {
        "phantom-study": PhantomSpec(
            videos=220,
            seed=STUDY_SEED,
            mean_frames=60.0,
            min_frames=33,
            max_frames=123,
            split_shares=(80 / 220, 120 / 220, 20 / 220),
            pose_spread=1.0,
            mirrored_share=0.3,
            anatomy_spread=1.5,
            zoom_spread=1.8,
            strands=6,
            artery_width=0.75,
            turn_seconds=4.0,
            clipped_share=0.4,
            black_share=0.02,
            outside_share=0.015,
            ignored_share=0.3,
            window_masks=7,
        )
    }
)


def recipe(name: str, *, seed: int | None = None, videos: int | None = None) -> PhantomSpec:
    """A named phantom, of another seed or with another number of videos where given."""
    if name not in RECIPES:
        raise CalotError(f"recipe={name!r} is not a phantom; choose one of {', '.join(RECIPES)}")
    given = {key: value for key, value in (("seed", seed), ("videos", videos)) if value is not None}
    return replace(RECIPES[name], **given)  # type: ignore[arg-type]
