"""Whether a run's scores follow a cue: attention on it, what covering it does, ranks where it contradicts labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import rankdata

from calot.criteria import CRITERIA, label
from calot.statistics.clip_means import ClipMean, mean_over_clips, ratio_over_clips
from calot.statistics.intervals import Interval
from calot.statistics.jackknife import interval_fields, plain_interval

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_NO_PAIRS = "no pair of a positive and a negative"


@dataclass(frozen=True, kw_only=True)
class RanksByCue:
    """Of one criterion: the share of pairs (a positive, a negative) that scores rank rightly, where the cue says the
    same as both labels (`agreeing`) and where it says the opposite (`contradicting`), and the first minus the second.

    `shown` is the share of clips on which the cue says what the label says: 1 is a cue that always agrees.
    """

    criterion: str
    agreeing: Interval
    contradicting: Interval
    difference: Interval
    shown: float

    @property
    def supported(self) -> bool:
        """Whether the interval of the difference lies above zero."""
        return self.difference.low is not None and self.difference.low > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        held = {n: interval_fields(getattr(self, n)) for n in ("agreeing", "contradicting", "difference")}
        return {"criterion": self.criterion, "agreement": self.shown, "supported": self.supported, **held}


def pairs_ranked(labels: Flags, scores: NDArray[np.floating[Any]]) -> float:
    """The share of pairs of a positive and a negative whose scores are in that order, ties half (the area under the
    ROC curve); NaN where there is no pair."""
    positive, n = int(labels.sum()), len(labels)
    if positive in (0, n):
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * (n - positive)))


def follows_cue(
    labels: Flags, scores: NDArray[np.floating[Any]], *, cue: Flags, videos: NDArray[np.str_], criterion: str
) -> RanksByCue:
    """Compare ranks where the cue agrees with the label with those where it contradicts it."""
    agree = cue == labels

    def both(kept: Flags) -> tuple[float, float]:
        one, other = (pairs_ranked(labels[kept & part], scores[kept & part]) for part in (agree, ~agree))
        return one, other

    whole = both(np.ones(len(labels), dtype=np.bool_))
    left = np.array([both(videos != video) for video in np.unique(videos)])
    names = ("where the cue agrees", "where the cue contradicts the label")
    found = [
        plain_interval(value, left_out=left[:, k], floor=0.0, reason=f"{_NO_PAIRS} {names[k]}")
        for k, value in enumerate(whole)
    ]
    difference = plain_interval(whole[0] - whole[1], left_out=left[:, 0] - left[:, 1], reason=_NO_PAIRS)
    return RanksByCue(
        criterion=criterion,
        agreeing=found[0],
        contradicting=found[1],
        difference=difference,
        shown=float(agree.mean()),
    )


def cue_means(clips: pl.DataFrame) -> dict[str, ClipMean]:
    """Over the clips that show the cue: attention on it over its area, and what covering it does beside covering as
    many pixels elsewhere. `clips` has `video`, `area`, `mass` (null without attention), `effect_X`, `elsewhere_X`."""
    videos = clips["video"].to_list()

    def column(name: str) -> Array:
        return clips[name].cast(pl.Float64).fill_null(np.nan).to_numpy()

    found = {
        "area": mean_over_clips(column("area"), videos=videos, share=True),
        "mass": mean_over_clips(column("mass"), videos=videos, share=True),
        "enrichment": ratio_over_clips(column("mass"), column("area"), videos=videos),
    }
    for criterion in CRITERIA:
        on, off = (np.abs(column(f"{kind}_{criterion}")) for kind in ("effect", "elsewhere"))
        found[f"effect_{criterion}"] = mean_over_clips(on, videos=videos)
        found[f"elsewhere_{criterion}"] = mean_over_clips(off, videos=videos)
        found[f"more_{criterion}"] = mean_over_clips(on - off, videos=videos)
    return found


def cue_sentences(means: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the intervals support, in words. Ranks are left to the table: videos that show the cue more often can differ
    in scores without it."""
    said = []
    enriched = means["enrichment"]
    if enriched["low"] is not None and enriched["low"] > 1:
        said.append(
            f"Pooling puts {100 * means['mass']['value']:.1f} % of its attention on the cue, {enriched['value']:.1f} "
            f"times its share of the area ({enriched['low']:.1f} to {enriched['high']:.1f})."
        )
    for criterion in CRITERIA:
        more, on, off = (means[f"{kind}_{criterion}"] for kind in ("more", "effect", "elsewhere"))
        if more["low"] is not None and more["low"] > 0:
            said.append(
                f"Covering the cue moves the logit of {label(criterion)} by {on['value']:.2f}, covering as many pixels "
                f"elsewhere by {off['value']:.2f} ({more['low']:.2f} to {more['high']:.2f} more)."
            )
    return said or ["Nothing here shows, beyond its interval, that the run uses the cue."]
