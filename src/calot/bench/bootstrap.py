"""Average precision of thousands of video-level bootstrap replicates, against a scikit-learn loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from calot.bench.side_by_side import Contest, ExactnessCheck, Outcome, compete, largest_difference
from calot.statistics.predictions import Predictions
from calot.statistics.resampling import Resampler, bootstrap_weights
from calot.statistics.schema import LABELS, LOGITS

TARGET = 50.0
TOLERANCE = 1e-12
REACHED = (1.0, 1.2, 0.6)  # how high a video's state must stand for each criterion to be positive

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Replicates:
    """A table and how often each replicate draws each of its videos."""

    table: Predictions
    weights: NDArray[np.int32]

    def sklearn(self, count: int) -> Array:
        """(count, criteria): gather the drawn videos' rows, call scikit-learn; NaN where no positive was drawn."""
        names = np.unique(self.table.videos)
        rows = [np.flatnonzero(self.table.videos == name) for name in names]
        labels, logits = self.table.labels, self.table.logits
        out = np.full((count, labels.shape[1]), np.nan)
        for r in range(count):
            drawn = np.concatenate([rows[v] for v in np.repeat(np.arange(len(rows)), self.weights[r])])
            for k in range(labels.shape[1]):
                if labels[drawn, k].any():
                    out[r, k] = average_precision_score(labels[drawn, k], logits[drawn, k])
        return out

    def ours(self) -> Array:
        """(replicates, criteria): all of it, the sort included."""
        return np.asarray(Resampler.of([self.table]).ap(self.weights)[:, 0])


def bench_bootstrap(
    *, frames: int = 12_000, videos: int = 41, replicates: int = 2_000, naive_replicates: int = 20, repeats: int = 5
) -> Outcome:
    """The replicates of `video_intervals(method="percentile")` or `"bca"` for three criteria, one thread."""
    weights = bootstrap_weights(videos, replicates=replicates)
    distinct = Replicates(table=simulated_predictions(frames, videos=videos), weights=weights)
    tied = Replicates(table=simulated_predictions(frames, videos=videos, decimals=1), weights=weights)
    return compete(
        Contest(
            bench="bootstrap",
            work=f"AP of 3 criteria over {frames} frames in {replicates} replicates of {videos} videos",
            naive_way="gather the drawn videos' rows, then sklearn's average_precision_score",
            our_way="calot.statistics.resampling: sort once, reweight",
            target=TARGET,
            repeats=repeats,
            checks=lambda: (
                _check(distinct, count=naive_replicates, what="scores all distinct"),
                _check(tied, count=naive_replicates, what="scores with ties"),
            ),
            naive=lambda: distinct.sklearn(naive_replicates),
            ours=distinct.ours,
            naive_share=naive_replicates / replicates,
            settings={"frames": frames, "videos": videos, "replicates": replicates, "criteria": 3},
        )
    )


def _check(case: Replicates, *, count: int, what: str) -> ExactnessCheck:
    off = largest_difference(case.sklearn(count), case.ours()[:count])
    return ExactnessCheck(what=f"AP of {count} replicates, {what}", difference=off, tolerance=TOLERANCE)


def simulated_predictions(frames: int, *, videos: int, decimals: int | None = None, run: int = 0) -> Predictions:
    """Labels and scores that lean by video, as frames of one operation do; another `run` has scores of its own."""
    rng = np.random.default_rng(1)
    cuts = np.sort(rng.choice(np.arange(1, frames), videos - 1, replace=False))
    video = np.searchsorted(cuts, np.arange(frames), side="right")
    state = rng.normal(size=(videos, len(LABELS)))[video]
    labels = state + 0.4 * rng.normal(size=state.shape) > np.array(REACHED)
    noise = np.random.default_rng([1, run]) if run else rng
    logits = (state + 1.5 * noise.normal(size=state.shape)).astype(np.float32)
    if decimals is not None:
        logits = logits.round(decimals)
    columns = {"video": [str(v) for v in video], "frame": np.arange(frames)}
    columns |= {name: labels[:, k].astype(np.int8) for k, name in enumerate(LABELS)}
    columns |= {name: logits[:, k] for k, name in enumerate(LOGITS)}
    return Predictions(frame=pl.DataFrame(columns))
