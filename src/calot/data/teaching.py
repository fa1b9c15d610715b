"""Soft targets that other runs gave, in a table by operation and frame, as a rule for what a clip is trained on."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path as FilePath

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.config.fields import Fraction, Path
from calot.criteria import CRITERIA
from calot.data.clips import ClipLabels, LabelRule
from calot.errors import CalotError, first_line
from calot.reading import LARGEST_TABLE, read_plain

#: Columns of the table: a probability of each criterion.
TAUGHT = tuple(f"taught_{criterion}" for criterion in CRITERIA)


@dataclass(frozen=True, kw_only=True)
class TaughtLabel(LabelRule):
    """What other runs gave the labelled frame, mixed with its raters' mean: `raters` is the raters' share.

    Hinton et al. 2015 with temperature 1: cross-entropy against probabilities. `targets` is a table that
    `calot distill` writes. Raises CalotError for a clip that it lacks.
    """

    targets: Path
    raters: Fraction = 0.5

    def __call__(self, clips: ClipLabels) -> NDArray[np.float32]:
        taught = taught_of(FilePath(self.targets), videos=clips.videos, frames=clips.frames)
        mixed: NDArray[np.float32] = ((1 - self.raters) * taught + self.raters * clips.centre_soft).astype(np.float32)
        return mixed


def taught_of(path: FilePath, *, videos: NDArray[np.str_], frames: NDArray[np.int64]) -> NDArray[np.float64]:
    """The table's probabilities `(n, k)` of labelled frames, in their order."""
    table = _read(path)
    asked = pl.DataFrame({"video": videos.tolist(), "frame": frames.tolist()}, schema={"video": str, "frame": pl.Int64})
    found = asked.join(table, on=["video", "frame"], how="left", maintain_order="left").select(TAUGHT).to_numpy()
    missing = np.flatnonzero(np.isnan(found).any(axis=1))
    if len(missing):
        raise CalotError(
            f"{path}: no soft target for {len(missing)} of {len(asked)} training clips, first video "
            f"{videos[missing[0]]}, frame {frames[missing[0]]}: teach it under the protocol of the student"
        )
    return np.asarray(found, dtype=np.float64)


def _read(path: FilePath) -> pl.DataFrame:
    try:
        table = pl.read_parquet(io.BytesIO(read_plain(path, largest=LARGEST_TABLE)))
        table = table.select(pl.col("video").cast(str), pl.col("frame").cast(pl.Int64), *(pl.col(c) for c in TAUGHT))
        table = table.with_columns(pl.col(c).cast(pl.Float64) for c in TAUGHT)
    except FileNotFoundError:
        raise CalotError(f"{path}: no such file; label.targets is a table that `calot distill` writes") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CalotError(f"{path}: not a table of soft targets ({first_line(error)[:120]}); teach it again") from None
    values = table.select(TAUGHT).to_numpy()
    if not ((values >= 0) & (values <= 1)).all():
        raise CalotError(f"{path}: a soft target is missing or outside 0 to 1; teach it again")
    if table.select("video", "frame").is_duplicated().any():
        raise CalotError(f"{path}: a frame is taught twice; teach it again")
    return table
