"""95 % intervals over videos. Frames of one operation are near copies of each other: the video is the unit.

The default is `jackknife_logit_df`, chosen by simulation; its coverage in the worst simulated world is printed beside
every interval (`coverage.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import t as student

from calot.errors import CalotError
from calot.statistics.coverage import MeasuredCoverage, measured_coverage
from calot.statistics.metrics import mean_ap
from calot.statistics.predictions import Predictions
from calot.statistics.resampling import Resampler, bootstrap_weights, jackknife_weights
from calot.statistics.rounding import how_many

Array = NDArray[np.float64]
Method = Literal["jackknife_logit", "jackknife_logit_df", "percentile", "bca"]
METHODS: tuple[Method, ...] = get_args(Method)
DEFAULT_METHOD: Method = "jackknife_logit_df"
LEVEL = 0.95
MIN_VIDEOS = 3
MAX_UNDEFINED = 0.05
ONE_VIDEO = "all positive labels lie in one video: how AP varies between videos cannot be estimated"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its interval; `reason` says why a None is None."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class VideoIntervals:
    """Intervals of each AP and of mAP, with the method; `coverage` by criterion and under `map` is what such intervals
    held in simulation at this number of positive videos (None where not measured: another method, one positive video).
    """

    ap: dict[str, Interval]
    map: Interval
    method: Method
    coverage: dict[str, MeasuredCoverage | None]
    videos: int
    replicates: int


def jackknife_logit(left_out: Array, *, value: float) -> Interval:
    """Leave-one-video-out jackknife on the logit scale: logit(AP) +- t * se, t with V - 1 degrees of freedom.

    se^2 = (V - 1) / V * sum_i (phi_i - mean phi)^2 over the V replicates `left_out`, phi = logit(AP without video i).
    """
    return _jackknife(left_out, value=value, degrees=lambda squares: len(squares) - 1.0)


def jackknife_logit_df(left_out: Array, *, value: float) -> Interval:
    """`jackknife_logit` with Satterthwaite's degrees of freedom, fewer where few videos carry the variance."""
    return _jackknife(left_out, value=value, degrees=satterthwaite)


def _jackknife(left_out: Array, *, value: float, degrees: Callable[[Array], float]) -> Interval:
    if np.isnan(left_out).any():
        return Interval(value=value, low=None, high=None, reason=ONE_VIDEO)
    if not 0.0 < value < 1.0:
        reason = f"the value is exactly {value:g}: the logit scale has no width there"
        return Interval(value=value, low=None, high=None, reason=reason)
    edge = 1e-6  # a replicate at 0 or 1 while the value is not: one video holds every error (or hit)
    phi = logit(np.clip(left_out, edge, 1.0 - edge))
    count, squares = len(left_out), (phi - phi.mean()) ** 2
    error = float(np.sqrt((count - 1) / count * squares.sum()))
    half = float(student.ppf((1 + LEVEL) / 2, degrees(squares))) * error
    centre = float(logit(value))
    return Interval(value=value, low=float(expit(centre - half)), high=float(expit(centre + half)))


def satterthwaite(squares: Array) -> float:
    """2 E[v]^2 / Var(v) for the variance v = sum of squares, Var(v) from the squares' own spread; 2 ... V - 1."""
    count = len(squares)
    spread = float(((squares - squares.mean()) ** 2).sum()) * count / (count - 1)
    if spread <= 0.0:
        return count - 1.0
    return float(np.clip(2.0 * squares.sum() ** 2 / spread, 2.0, count - 1.0))


def percentile(replicates: Array, *, value: float) -> Interval:
    """Efron's percentile bootstrap; replicates without a positive are left out, above 5 % of them the interval is
    undefined.
    """
    kept, reason = _defined(replicates)
    if reason is not None:
        return Interval(value=value, low=None, high=None, reason=reason)
    low, high = np.quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def bca(replicates: Array, *, value: float, left_out: Array) -> Interval:
    """Bias-corrected and accelerated bootstrap (Efron 1987): quantiles moved by bias z0 and by acceleration from the
    jackknife.
    """
    kept, reason = _defined(replicates)
    if reason is not None or np.isnan(left_out).any():
        reason = reason or ONE_VIDEO
        return Interval(value=value, low=None, high=None, reason=reason)
    below = (np.sum(kept < value) + 0.5 * np.sum(kept == value)) / len(kept)
    z0 = float(ndtri(np.clip(below, 1 / (len(kept) + 1), len(kept) / (len(kept) + 1))))
    deviation = left_out.mean() - left_out
    scale = float((deviation**2).sum()) ** 1.5
    acceleration = float((deviation**3).sum()) / (6 * scale) if scale > 0 else 0.0
    z = z0 + ndtri(np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    low, high = np.quantile(kept, np.clip(ndtr(z0 + z / (1 - acceleration * z)), 0.0, 1.0))
    return Interval(value=value, low=float(low), high=float(high))


def _defined(replicates: Array) -> tuple[Array, str | None]:
    kept = replicates[~np.isnan(replicates)]
    share = 1.0 - len(kept) / len(replicates)
    if share > MAX_UNDEFINED:
        return kept, f"{share:.0%} of the bootstrap replicates hold no positive label"
    return kept, None


def video_intervals(
    predictions: Predictions | Sequence[Predictions],
    *,
    method: Method | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> VideoIntervals:
    """AP per criterion and mAP, averaged over the seeds given, each with a 95 % interval over videos.

    `method` None takes `jackknife_logit_df`, which held best in all simulated worlds. The interval is that of
    sampling videos with these checkpoints held fixed; it does not include the variance of seeds.
    """
    tables = [predictions] if isinstance(predictions, Predictions) else list(predictions)
    engine = Resampler.of(tables)
    videos = len(engine.videos)
    chosen = method or DEFAULT_METHOD
    if chosen not in METHODS:
        raise CalotError(f"method={chosen!r} is not an interval method; choose one of {', '.join(METHODS)}")
    point = _point(engine.tables)
    left_out = engine.ap(jackknife_weights(videos)).mean(axis=1)
    resampled = None
    if chosen in ("percentile", "bca"):
        resampled = engine.ap(bootstrap_weights(videos, replicates=replicates, seed=seed)).mean(axis=1)
    ap = {}
    for k, name in enumerate(engine.criteria):
        ap[name] = interval(
            chosen,
            value=float(point[k]),
            left_out=left_out[:, k],
            drawn=None if resampled is None else resampled[:, k],
            positive_videos=engine.positive_videos[k],
        )
    total = interval(
        chosen,
        value=float(point.mean()),
        left_out=left_out.mean(axis=1),
        drawn=None if resampled is None else resampled.mean(axis=1),
        positive_videos=min(engine.positive_videos),
    )
    undefined = [name for name, count in zip(engine.criteria, engine.positive_videos, strict=True) if count == 0]
    if undefined:
        total = Interval(value=None, low=None, high=None, reason=f"no positive label for {', '.join(undefined)}")
    count = replicates if resampled is not None else videos
    held = _coverage(engine, method=chosen)
    shown = {name: held[name] if item.low is not None else None for name, item in {**ap, "map": total}.items()}
    return VideoIntervals(ap=ap, map=total, method=chosen, coverage=shown, videos=videos, replicates=count)


def _coverage(engine: Resampler, *, method: Method) -> dict[str, MeasuredCoverage | None]:
    """Only the default was measured in every world."""
    if method != DEFAULT_METHOD:
        return dict.fromkeys((*engine.criteria, "map"))
    counts = zip(engine.criteria, engine.positive_videos, strict=True)
    found = {name: measured_coverage("ap", positive_videos=count) for name, count in counts}
    return {**found, "map": measured_coverage("map", positive_videos=min(engine.positive_videos))}


def _point(tables: Sequence[Predictions]) -> Array:
    """scikit-learn's AP per criterion, averaged over seeds; NaN without a positive."""
    scores = [mean_ap(table.labels, table.logits).ap.values() for table in tables]
    return np.asarray(
        np.array([[np.nan if value is None else value for value in row] for row in scores]).mean(axis=0),
        dtype=np.float64,
    )


def interval(method: Method, *, value: float, left_out: Array, drawn: Array | None, positive_videos: int) -> Interval:
    """One interval by one method; undefined, with the reason, where the videos do not suffice."""
    if positive_videos == 0:
        return Interval(value=None, low=None, high=None, reason="no positive label")
    if len(left_out) < MIN_VIDEOS:
        reason = f"{how_many(len(left_out), 'video')}: an interval over videos needs {MIN_VIDEOS}"
        return Interval(value=value, low=None, high=None, reason=reason)
    if positive_videos == 1:
        return Interval(value=value, low=None, high=None, reason=ONE_VIDEO)
    if drawn is not None and method == "percentile":
        return percentile(drawn, value=value)
    if drawn is not None and method == "bca":
        return bca(drawn, value=value, left_out=left_out)
    jackknife = jackknife_logit if method == "jackknife_logit" else jackknife_logit_df
    return jackknife(left_out, value=value)
