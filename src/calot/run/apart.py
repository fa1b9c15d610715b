"""Which operations may train an encoder that is later scored: none of validation's or test's, here or published."""

from __future__ import annotations

from calot.data.endoscapes.published import CHOLEC80, CHOLECT50, SIZES
from calot.data.manifest import Manifest
from calot.errors import CalotError

#: By a data set's name, in small letters: Endoscapes' videos that are operations of it, too.
_SHARED = {"cholec80": CHOLEC80, "cholect50": CHOLECT50}


def require_apart(manifest: Manifest) -> None:
    """Raises CalotError where a training video is one of val or test: of this data set, or of Endoscapes by another
    name (CAMMA's map of overlaps). No label need be read for the encoder to have seen it."""
    splits = {split: set(manifest.split(split).table["video"].unique().to_list()) for split in manifest.splits}
    train = splits.get("train", set())
    for split in ("val", "test"):
        if both := sorted(train & splits.get(split, set())):
            raise CalotError(f"{manifest.source}: video {both[0]} is in train and in {split}: take it out of train")
    for here, there in _SHARED.get(manifest.dataset.lower(), {}).items():
        split = next(name for name, size in SIZES.items() if here in size.videos)
        if split != "train" and str(there) in train:
            raise CalotError(
                f"{manifest.source}: training video {there} of {manifest.dataset} is the operation {here} of "
                f"Endoscapes, which is in its {split}: take it out of train, or no score there counts"
            )
