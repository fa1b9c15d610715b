"""How the scored frames look, from what `calot.analysis.appearance` kept beside a data set: brightness and sharpness.

Neither needs a label, and neither needs the images here: a bare table says why it has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.statistics.predictions import Predictions

Array = NDArray[np.float64]
COLUMNS = {"video": pl.String, "frame": pl.Int64, "brightness": pl.Float64, "sharpness": pl.Float64}
NO_DATA = "the data set of this table is not on this disk (or the table does not belong to a run)"
NOT_READ = "the frames were not looked at yet; calot metrics RUN or calot report RUN does, beside their data set"


@dataclass(frozen=True, kw_only=True, eq=False)
class Appearance:
    """Mean luma (0 to 255) and variance of its Laplacian of each row of one seed, (n,); both empty where `reason` says
    why they are unknown."""

    reason: str | None
    brightness: Array = field(default_factory=lambda: np.zeros(0))
    sharpness: Array = field(default_factory=lambda: np.zeros(0))


def appearance_file(root: Path, *, manifest_hash: str, split: str) -> Path:
    """Where it is kept: beside the decoded frames of the data set."""
    return root / ".calot" / "appearance" / f"{manifest_hash[:24]}_{split}.parquet"


def read_appearance(path: Path) -> pl.DataFrame | None:
    """What is kept; None where there is nothing, or a file that is damaged: it is then computed again."""
    try:
        found = pl.read_parquet(path.read_bytes(), columns=list(COLUMNS))
        numbers = found.select("brightness", "sharpness").cast(pl.Float64)
        if found.is_empty() or not np.isfinite(numbers.to_numpy()).all():
            return None
        return found.cast(pl.Schema(COLUMNS))
    except (OSError, ValueError, pl.exceptions.PolarsError):
        return None


def appearance_of(predictions: Predictions, *, kept: pl.DataFrame | None) -> Appearance:
    """The figures of each row of the table's first seed; unknown where a frame is missing from what is kept."""
    if kept is None:
        return Appearance(reason=NOT_READ)
    table = predictions.by_seed()[0]
    rows = pl.DataFrame({"video": table.videos.tolist(), "frame": table.frames})
    found = rows.join(kept.unique(["video", "frame"]), on=["video", "frame"], how="left", maintain_order="left")
    if found["brightness"].null_count():
        return Appearance(reason=NOT_READ)
    return Appearance(reason=None, brightness=found["brightness"].to_numpy(), sharpness=found["sharpness"].to_numpy())
