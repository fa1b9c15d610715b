"""The sample table: every clip with its truth, the raters' mean, the run's scores, and how many of three are right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from calot.analysis.explaining.part import ExplainPart, Subject
from calot.criteria import CRITERIA
from calot.statistics.findings import Findings
from calot.statistics.metrics import sigmoid


@dataclass(frozen=True, kw_only=True)
class Samples(ExplainPart):
    """A score is right where it lies on the label's side of `threshold`, a probability."""

    name: str = "samples"
    threshold: float = 0.5

    def measure(self, subject: Subject) -> Findings:
        table, probability = subject.table, sigmoid(subject.logits)
        known = (table.majority >= 0).all(axis=1)
        right = (probability >= self.threshold) == (table.majority > 0)
        columns: dict[str, object] = {
            "clip": [subject.clip_name(i) for i in range(len(table))],
            "video": table.videos.tolist(),
            "frame": table.frame_numbers,
        }
        for k, criterion in enumerate(CRITERIA):
            columns[f"label_{criterion}"] = np.where(table.majority[:, k] >= 0, table.majority[:, k], -1)
            columns[f"soft_{criterion}"] = table.soft[:, k].astype(np.float64)
            columns[f"score_{criterion}"] = probability[:, k]
        columns |= {"right": right.sum(axis=1)}
        rows = pl.DataFrame(columns).filter(pl.Series(known)).fill_nan(None)
        counts = {str(n): int((rows["right"] == n).sum()) for n in range(len(CRITERIA) + 1)}
        facts = {"threshold": self.threshold, "clips": len(rows), "unlabelled": int((~known).sum()), "right": counts}
        if not len(rows):
            facts |= {"absent": f"No clip of {subject.split} has labels: there is no truth to set beside the scores."}
        return Findings(facts=facts, tables={"clips": rows})


PART = Samples()
