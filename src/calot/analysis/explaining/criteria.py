"""The criterion comparison: which criteria a run detects on clips that show exactly one, and which it is blind to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from calot.analysis.explaining.part import ExplainPart, Subject, spread_over_videos
from calot.analysis.explaining.pooled import pooling_taps, read_pooled, without_weights
from calot.analysis.explaining.pooling import group_means
from calot.criteria import CRITERIA
from calot.statistics.clip_groups import only
from calot.statistics.detection import MARGIN, compare_criteria
from calot.statistics.findings import Findings


@dataclass(frozen=True, kw_only=True)
class CriteriaComparison(ExplainPart):
    """Scores are of every labelled clip; pooling is read on at most `pooled` clips of each criterion."""

    name: str = "criteria"
    pooled: int = 64

    def measure(self, subject: Subject) -> Findings:
        scores = subject.predictions
        if not scores.labelled:
            return Findings(facts={"absent": f"No clip of {subject.split} has labels: nothing can be detected."})
        found = compare_criteria(scores.labels, logits=scores.logits, videos=scores.videos)
        rows = [one.to_dict() for one in found.detections.values()]
        flat = [_flat(row) for row in rows]
        confusion = [
            {"shown": CRITERIA[i], "highest": CRITERIA[j], "clips": int(found.highest[i, j])}
            | {"clips_by_rank": int(found.highest_rank[i, j])}
            for i in range(len(CRITERIA))
            for j in range(len(CRITERIA))
        ]
        tables = {
            "detection": pl.DataFrame(flat, infer_schema_length=None),
            "confusion": pl.DataFrame(confusion),
        }
        facts: dict[str, Any] = {"detections": rows, "blind": found.blind, "margin": MARGIN}
        facts["without_pooling"] = None if pooling_taps(subject.model) else without_weights(subject.model)
        pooling = self._pooling(subject)
        if pooling is not None:
            tables["pooling"] = pooling
        return Findings(facts=facts, tables=tables)

    def _pooling(self, subject: Subject) -> pl.DataFrame | None:
        """Means of what pooling weighs on the clips of each criterion; None where there are none."""
        if not pooling_taps(subject.model):
            return None
        parts = []
        for name in CRITERIA:
            among = np.flatnonzero(only(subject.table.majority, criterion=name)).astype(np.int64)
            if len(among):
                chosen = spread_over_videos(subject.table, among=among, count=self.pooled)
                read = read_pooled(subject, chosen, label=f"pooling, {name} alone").rows
                parts.append(read.select(pl.lit(name).alias("group"), *read.columns))
        return group_means(pl.concat(parts)) if parts else None


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """One line of a table: intervals as three columns each."""
    found = {name: value for name, value in row.items() if not isinstance(value, dict)}
    for name in ("ap", "lift", "among_all"):
        found |= {name: row[name]["value"], f"{name}_low": row[name]["low"], f"{name}_high": row[name]["high"]}
    return found


PART = CriteriaComparison()
