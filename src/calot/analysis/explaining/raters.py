"""The raters behind a split's labels: who says yes more or less often than every other one. Needs no model."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from calot.analysis.explaining.part import ExplainPart, Subject
from calot.statistics.findings import Findings
from calot.statistics.raters import rater_bias


@dataclass(frozen=True, kw_only=True)
class Raters(ExplainPart):
    """On the keyframes that all raters saw."""

    name: str = "raters"

    def measure(self, subject: Subject) -> Findings:
        rows = subject.manifest
        keyframes = rows.keyframes
        videos = pl.Series(rows.videos).filter(pl.Series(keyframes)).to_numpy().astype(str)
        found = rater_bias(rows.votes[keyframes], videos=videos, raters=[str(r) for r in rows.raters])
        if found is None:
            absent = f"The labels of {subject.split} do not come with the votes of two raters or more."
            return Findings(facts={"absent": absent})
        departures = [one.to_dict() for one in found.departures]
        flat = [
            {k: v for k, v in row.items() if k != "difference"}
            | {"difference": row["difference"]["value"], "low": row["difference"]["low"]}
            | {"high": row["difference"]["high"]}
            for row in departures
        ]
        facts = {
            "named": found.named,
            "keyframes": found.keyframes,
            "videos": found.videos,
            "departures": departures,
            "says": {rater: found.sentence(rater) for rater in found.raters},
        }
        return Findings(facts=facts, tables={"shares": pl.DataFrame(flat, infer_schema_length=None)})


PART = Raters()
