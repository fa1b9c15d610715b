"""The pooling diagnostic: what the attentive pooling weighs, by how many criteria hold, and for clips by their id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.analysis.explaining.part import ExplainPart, Subject, spread_over_videos
from calot.analysis.explaining.pooled import (
    PooledClips,
    bins_of,
    frames_of_bins,
    pooling_taps,
    read_pooled,
    without_weights,
)
from calot.criteria import CRITERIA
from calot.statistics.clip_groups import CATEGORIES, correlation_over_clips, of_category
from calot.statistics.clip_means import mean_over_clips
from calot.statistics.findings import Findings
from calot.statistics.intervals import Interval
from calot.statistics.jackknife import interval_fields

#: Group of the clips named with `--clip`.
ASKED = "asked for"
#: Statistics whose mean over a group's clips is shown.
MEANS = ("entropy", "averaged_entropy", "std", "max", "times_uniform", "last_bin", "confidence")


@dataclass(frozen=True, kw_only=True)
class PoolingDiagnostic(ExplainPart):
    """`pictured` clips per group are drawn, with the weights laid over a frame of each temporal bin."""

    name: str = "pooling"
    pictured: int = 2

    def measure(self, subject: Subject) -> Findings:
        if not pooling_taps(subject.model):
            return Findings(facts={"absent": without_weights(subject.model)})
        groups = self._groups(subject)
        chosen = np.unique(np.concatenate(list(groups.values())))
        read = read_pooled(subject, chosen, label=f"pooling of {len(chosen)} clips")
        place = {int(clip): i for i, clip in enumerate(chosen.tolist())}
        rows = _by_group(read, groups=groups, subject=subject)
        shown = [(name, clip) for name, clips in groups.items() for clip in self._pictured(name, clips)]
        of_all = [clip for _, clip in shown]
        return Findings(
            facts=_facts(read, subject=subject, groups=groups),
            tables={"clips": rows, "groups": group_means(rows), "correlations": _correlations(read.rows)},
            arrays={
                "groups": np.array([name for name, _ in shown]),
                "clips": np.array([subject.clip_name(clip) for clip in of_all]),
                "frames": frames_of_bins(subject, np.array(of_all, dtype=np.int64), bins=read.grid[0]),
                "maps": read.maps[:, [place[clip] for clip in of_all]].astype(np.float32),
            },
        )

    def _pictured(self, name: str, clips: NDArray[np.int64]) -> list[int]:
        held: list[int] = clips.tolist()
        return held if name == ASKED else held[: self.pictured]

    @staticmethod
    def _groups(subject: Subject) -> dict[str, NDArray[np.int64]]:
        """Clips of each category, as many as were asked for where there are so many; and those named."""
        found = {}
        for name in CATEGORIES:
            among = np.flatnonzero(of_category(subject.table.majority, name=name)).astype(np.int64)
            if len(among):
                found[name] = spread_over_videos(subject.table, among=among, count=subject.clips)
        if subject.asked or not found:
            asked = subject.asked or spread_over_videos(
                subject.table, among=np.arange(len(subject.table)), count=subject.clips
            )
            found[ASKED if subject.asked else "unlabelled"] = np.array(asked, dtype=np.int64)
        return found


def _by_group(read: PooledClips, *, groups: dict[str, NDArray[np.int64]], subject: Subject) -> pl.DataFrame:
    """The rows of each group, a clip that was asked for once more under that name."""
    parts = []
    for name, clips in groups.items():
        ids = [subject.clip_name(clip) for clip in clips.tolist()]
        rows = read.rows.filter(pl.col("clip").is_in(ids))
        parts.append(rows.select(pl.lit(name).alias("group"), *rows.columns))
    return pl.concat(parts)


def group_means(rows: pl.DataFrame) -> pl.DataFrame:
    """Means over the clips of each group and tap, with intervals over videos; also of each bin, and of right ones."""
    found: list[dict[str, Any]] = []
    for (group, tap), held in rows.group_by(["group", "tap"], maintain_order=True):
        about = {"group": group, "tap": tap, "clips": len(held), "videos": held["video"].n_unique()}
        for name in (*MEANS, *bins_of(rows), *(f"right_{c}" for c in CRITERIA)):
            share = name not in ("std", "max", "times_uniform")
            one = mean_over_clips(held[name].cast(pl.Float64), videos=held["video"].to_list(), share=share)
            found.append(about | {"statistic": name} | _fields(one.interval))
    return pl.DataFrame(found, schema_overrides=_VALUES, infer_schema_length=None)


_VALUES = {"value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "reason": pl.String}


def _fields(interval: Interval) -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "reason": None} | interval_fields(interval)


def _correlations(rows: pl.DataFrame) -> pl.DataFrame:
    """Spearman's correlation of a clip's entropy, and of its largest weight, with the run's confidence."""
    found = []
    for (tap,), held in rows.group_by(["tap"], maintain_order=True):
        for name in ("entropy", "averaged_entropy", "times_uniform"):
            one = correlation_over_clips(held[name], held["confidence"], videos=held["video"])
            found.append({"tap": tap, "statistic": name, "clips": len(held)} | _fields(one))
    return pl.DataFrame(found, schema_overrides=_VALUES, infer_schema_length=None)


def _facts(read: PooledClips, *, subject: Subject, groups: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    time, high, wide = read.grid
    return {
        "taps": list(read.taps),
        "tokens": time * high * wide,
        "grid": list(read.grid),
        "groups": {name: len(clips) for name, clips in groups.items()},
        "missing": [name for name in CATEGORIES if name not in groups],
        "masked": subject.model.masking is not None,
    }


PART = PoolingDiagnostic()
