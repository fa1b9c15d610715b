"""Sub-challenge B of the SAGES CVS challenge: raters weighted by how sure they were, scored by squared error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.statistics.frame_sums import BrierIntervals, VideoUnits, brier_intervals
from calot.statistics.intervals import Interval
from calot.statistics.jackknife import interval_fields, plain_interval
from calot.statistics.metrics import brier
from calot.statistics.predictions import Predictions

Array = NDArray[np.float64]

#: Columns of a table of targets, beside `video` and `frame`.
TARGETS = tuple(f"target_{criterion}" for criterion in CRITERIA)


def confidence_targets(votes: ArrayLike, *, confidences: ArrayLike) -> Array:
    """0.5 + (1 / R) sum_r confidence_r (vote_r - 0.5), `(n, k)`.

    `votes` are 0 and 1, `(n, R, k)`; `confidences` 0 to 1, `(n, R)`. Where nobody was sure the target is 0.5.
    Raises CalotError for values outside these, and NaN.
    """
    vote, sure = np.asarray(votes, dtype=np.float64), np.asarray(confidences, dtype=np.float64)
    if vote.ndim != 3 or sure.shape != vote.shape[:2]:
        raise CalotError(f"votes {vote.shape} and confidences {sure.shape}: need (n, raters, criteria) and (n, raters)")
    if not np.isin(vote, (0.0, 1.0)).all():
        raise CalotError("votes: need 0 and 1 alone; take out frames that nobody rated")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise CalotError("confidences: need numbers from 0 to 1")
    return np.asarray(0.5 + np.einsum("nr,nrk->nk", sure, vote - 0.5) / vote.shape[1], dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class ConfidenceScore:
    """Mean squared error of the probabilities against the targets, per criterion and their mean."""

    criteria: dict[str, BrierIntervals]
    references: dict[str, float]
    mean: Interval
    frames: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `reference` forecasts the mean target throughout."""
        each = {
            name: interval_fields(item.value) | {"reference": self.references[name]}
            for name, item in self.criteria.items()
        }
        return {"criteria": each, "mean": interval_fields(self.mean), "frames": self.frames}


def confidence_score(table: Predictions, *, targets: pl.DataFrame) -> ConfidenceScore:
    """Score a table of one seed against targets (`video, frame, target_<criterion>`).

    Raises CalotError for a frame that has none.
    """
    rows = table.frame.select("video", "frame").join(
        targets.with_columns(pl.col("frame").cast(pl.Int64)), on=["video", "frame"], how="left", maintain_order="left"
    )
    lost = rows.filter(pl.any_horizontal(pl.col(TARGETS).is_null()))
    if lost.height:
        raise CalotError(
            f"{table.source}: video {lost['video'][0]}, frame {lost['frame'][0]} has no target of the raters' "
            f"confidence ({lost.height} frames like it)"
        )
    units, found, references = VideoUnits.of(table.videos), {}, {}
    for k, name in enumerate(CRITERIA):
        target, logits = rows[TARGETS[k]].to_numpy().astype(np.float64), table.logits[:, k]
        found[name] = brier_intervals(target, logits=logits, units=units)
        references[name] = brier(target, logits=logits).reference
    left_out = np.mean([item.value_left_out for item in found.values()], axis=0)
    value = float(np.mean([item.value.value for item in found.values()]))
    return ConfidenceScore(
        criteria=found,
        references=references,
        mean=plain_interval(value, left_out=left_out, floor=0.0),
        frames=rows.height,
    )
