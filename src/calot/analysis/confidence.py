"""The targets of raters weighted by their confidence, for each rated frame of a data set that has both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from calot.data.readers import reader_of
from calot.errors import CalotError
from calot.statistics.confidence import TARGETS, confidence_targets


def targets_of(root: Path, *, manifest_hash: str) -> pl.DataFrame | None:
    """`video, frame, target_<criterion>` of every frame that all raters saw; None where nobody was asked.

    Raises CalotError where the folder is not the data set of that manifest.
    """
    reader = reader_of(root)
    sure = reader.confidences(root)
    if not sure:
        return None
    manifest = reader.manifest(root)
    if manifest.hash != manifest_hash:
        raise CalotError(
            f"{root}: not the data set that the table was scored on ({manifest_hash[:12]}). Give that one."
        )
    votes = manifest.votes
    rated = np.flatnonzero((votes >= 0).all(axis=(1, 2)))
    confidences = np.array([sure[manifest.videos[row]] for row in rated])
    targets = confidence_targets(votes[rated], confidences=confidences)
    named = {name: targets[:, k] for k, name in enumerate(TARGETS)}
    return manifest.table[rated].select("video", "frame").with_columns(pl.Series(n, v) for n, v in named.items())
