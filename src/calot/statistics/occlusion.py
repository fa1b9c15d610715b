"""Effects of blocks over clips: where they lie, whether they are faithful, whether they are the model's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from calot.statistics.clip_means import ClipMean, mean_over_clips, ratio_over_clips

Array = NDArray[np.float64]

#: How effects are measured.
OCCLUSION, GRADIENTS, RANDOM_ORDER = "occlusion", "integrated gradients", "random"
METHODS = (OCCLUSION, GRADIENTS)
#: Sets beside the classes of masks: all of them together, and a suspected cue.
ANATOMY, CUE = "anatomy", "cue"
#: A map is said to hardly change where its rank correlation with that of random weights is at least this.
UNCHANGED = 0.5


@dataclass(frozen=True, kw_only=True)
class EffectSummary:
    """One statistic of one method and criterion (None: all of them together)."""

    method: str
    criterion: str | None
    statistic: str
    mean: ClipMean

    def row(self) -> dict[str, Any]:
        """Plain values, for a table."""
        return {"method": self.method, "criterion": self.criterion, "statistic": self.statistic} | self.mean.row()


def effect_shares(effects: ArrayLike, *, sets: Mapping[str, ArrayLike]) -> dict[str, float]:
    """Of one map `(t, y, x)`, the share of its absolute effects on each set, and each set's share of the area.

    A set holds the share of each block's pixels that are of it, `(y, x)` or `(t, y, x)`; NaN throughout where it is not
    known. Without any effect the shares of effect are NaN.
    """
    size = np.abs(np.asarray(effects, dtype=np.float64))
    whole, found = float(size.sum()), {}
    for name, weights in sets.items():
        weight = np.broadcast_to(np.asarray(weights, dtype=np.float64), size.shape)
        found[f"share_{name}"] = float((size * weight).sum() / whole) if whole > 0 else np.nan
        found[f"area_{name}"] = float(weight.mean())
    return found


def rank_correlation(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's, of the absolute effects of two maps (Adebayo et al. 2018); NaN where either is constant."""
    a, b = (np.abs(np.asarray(each, dtype=np.float64)).ravel() for each in (one, other))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)


def curve_area(curve: ArrayLike) -> float:
    """The mean height of a curve whose points are equally far apart (trapezoids)."""
    values = np.asarray(curve, dtype=np.float64)
    return float(np.trapezoid(values) / (len(values) - 1))


def summarise_effects(clips: pl.DataFrame) -> pl.DataFrame:
    """Means over clips of every statistic, with intervals over videos.

    `clips` has a row per clip, method and criterion: `video`, `frame`, `method`, `criterion`, `share_X`, `area_X`,
    `deletion`, `insertion`, `deletion_random`, `insertion_random`, `correlation`, `signed_sum`, `unexplained`.
    """
    found: list[EffectSummary] = []
    sets = [name.removeprefix("share_") for name in clips.columns if name.startswith("share_")]
    for method in METHODS:
        of_method = clips.filter(pl.col("method") == method)
        for criterion in (*of_method["criterion"].unique(maintain_order=True).to_list(), None):
            rows = of_method if criterion is None else of_method.filter(pl.col("criterion") == criterion)
            if len(rows):
                found += _of_rows(rows, method=method, criterion=criterion, sets=sets)
    schema: dict[str, Any] = {"criterion": pl.String, "reason": pl.String}
    schema |= dict.fromkeys(("value", "low", "high"), pl.Float64)
    return pl.DataFrame([one.row() for one in found], schema_overrides=schema, infer_schema_length=None)


def _of_rows(rows: pl.DataFrame, *, method: str, criterion: str | None, sets: Sequence[str]) -> list[EffectSummary]:
    videos = rows["video"].to_list()

    def column(name: str) -> Array:
        return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()

    means: dict[str, ClipMean] = {}
    for name in sets:
        share, area = column(f"share_{name}"), column(f"area_{name}")
        means[f"share_{name}"] = mean_over_clips(share, videos=videos, share=True)
        means[f"area_{name}"] = mean_over_clips(np.where(np.isnan(share), np.nan, area), videos=videos, share=True)
        means[f"enrichment_{name}"] = ratio_over_clips(share, area, videos=videos)
    for name in ("deletion", "insertion", "deletion_random", "insertion_random", "correlation"):
        means[name] = mean_over_clips(column(name), videos=videos)
    for name in ("deletion", "insertion"):
        gain = column(name) - column(f"{name}_random")
        means[f"{name}_less_random"] = mean_over_clips(gain, videos=videos)
    return [EffectSummary(method=method, criterion=criterion, statistic=s, mean=m) for s, m in means.items()]


def unchanged_maps(summary: pl.DataFrame) -> list[str]:
    """The maps that random weights hardly change, in words, one sentence each."""
    found = []
    for row in summary.filter((pl.col("statistic") == "correlation") & pl.col("value").is_not_null()).to_dicts():
        if row["value"] < UNCHANGED:
            continue
        of = "all criteria" if row["criterion"] is None else row["criterion"]
        bounds = "" if row["low"] is None else f", {row['low']:.2f} to {row['high']:.2f}"
        found.append(
            f"The map of {row['method']} for {of} hardly changes with random weights (rank correlation "
            f"{row['value']:.2f}{bounds}): it shows the picture more than the model."
        )
    return found
