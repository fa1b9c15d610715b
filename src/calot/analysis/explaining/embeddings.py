"""The pooled vectors of a split's clips: a map, how much of them is the video, and what is read off them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.analysis.capture import capture
from calot.analysis.explaining.part import ExplainPart, Subject, spread_over_videos
from calot.criteria import CRITERIA
from calot.data.clips import ClipTable
from calot.statistics.embeddings import plane_map, video_identity
from calot.statistics.findings import Findings
from calot.statistics.metrics import sigmoid
from calot.statistics.probing import probe_features

#: What is probed, and the run's own scores beside it.
POOLED, OWN = "pooled vector", "the run’s own head"


@dataclass(frozen=True, kw_only=True)
class Embeddings(ExplainPart):
    """At most `most` clips, evenly over videos, are embedded."""

    name: str = "embeddings"
    most: int = 2000

    def measure(self, subject: Subject) -> Findings:
        known = np.flatnonzero((subject.table.majority >= 0).all(axis=1))
        if len(known) < 2:
            return Findings(facts={"absent": f"{len(known)} clips of {subject.split} have labels: nothing to map."})
        chosen = spread_over_videos(subject.table, among=known, count=self.most)
        table, vectors = subject.table.select(chosen), self._vectors(subject, chosen)
        plane = plane_map(vectors)
        seconds = table.frame_numbers / table.frames_per_second
        with subject.ui.task("probes of the vectors") as advance:
            identity = video_identity(vectors, videos=table.videos, seconds=seconds, span=clip_seconds(table))
            advance(1, 2)
            own = subject.logits[chosen].astype(np.float64)
            probes = probe_features({POOLED: vectors}, labels=table.majority, videos=table.videos, given={OWN: own})
            advance(2, 2)
        columns: dict[str, Any] = {
            "clip": [subject.clip_name(i) for i in chosen.tolist()],
            "video": table.videos.tolist(),
            "frame": table.frame_numbers,
            "x": plane.places[:, 0],
            "y": plane.places[:, 1],
        }
        score = sigmoid(subject.logits[chosen])
        for k, criterion in enumerate(CRITERIA):
            columns |= {f"label_{criterion}": table.majority[:, k], f"score_{criterion}": score[:, k]}
        facts = {
            "clips": len(table),
            "of": len(known),
            "videos": probes.videos,
            "width": vectors.shape[1],
            "shares": list(plane.shares),
            "span_seconds": clip_seconds(table),
            "identity": identity.to_dict(),
        }
        schema: dict[str, Any] = {"criterion": pl.String, "reason": pl.String}
        schema |= dict.fromkeys(("value", "low", "high", "chance"), pl.Float64)
        scores = pl.DataFrame([one.row() for one in probes.scores], schema_overrides=schema, infer_schema_length=None)
        return Findings(facts=facts, tables={"clips": pl.DataFrame(columns), "probes": scores})

    def _vectors(self, subject: Subject, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        found = []
        with capture(subject.model, points=["pooling"]) as seen:
            for _ in subject.passes(subject.dataset(chosen), label="pooled vectors"):
                found.append(seen["pooling"][-1].double().cpu().numpy())
                seen["pooling"].clear()
        return np.concatenate(found)


def clip_seconds(table: ClipTable) -> float:
    """How long the longest clip's frames span, by their numbers."""
    numbers = table.clip_frame_numbers
    return float((numbers.max(axis=1) - numbers.min(axis=1)).max(initial=0) / table.frames_per_second)


PART = Embeddings()
