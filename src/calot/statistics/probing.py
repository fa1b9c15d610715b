"""How well a simple classifier reads the criteria off features of clips, whole videos left out, and paired differences.

The classifier is the same for every kind of feature: logistic regression on standardised features, whose penalty is
chosen inside the training videos alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.criteria import CRITERIA, label
from calot.errors import CalotError
from calot.statistics.intervals import DEFAULT_METHOD, Interval, interval
from calot.statistics.jackknife import plain_interval
from calot.statistics.metrics import average_precision
from calot.statistics.resampling import WeightedAP, jackknife_weights

Array = NDArray[np.float64]

#: scikit-learn's C, from strong to weak penalty, of which one is chosen.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
FOLDS = 5
#: Fewest videos with a positive, and without all positive, that a criterion is judged on.
FEWEST_VIDEOS = 3


@dataclass(frozen=True, kw_only=True)
class ProbeScore:
    """Average precision of one kind of feature for one criterion, or their mean (`criterion` None)."""

    features: str
    criterion: str | None
    ap: Interval
    chance: float | None

    def row(self) -> dict[str, Any]:
        """Plain values, for a table."""
        own = {"features": self.features, "criterion": self.criterion, "chance": self.chance}
        return own | {k: getattr(self.ap, k) for k in ("value", "low", "high", "reason")}


@dataclass(frozen=True, kw_only=True)
class ProbeDifference:
    """`features` minus `less`, on the same clips."""

    features: str
    less: str
    criterion: str | None
    difference: Interval

    @property
    def supported(self) -> bool:
        """Whether the interval leaves zero out."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and (low > 0 or high < 0)

    def row(self) -> dict[str, Any]:
        """Plain values, for a table."""
        own = {"features": self.features, "less": self.less, "criterion": self.criterion}
        return own | {k: getattr(self.difference, k) for k in ("value", "low", "high", "reason")}


@dataclass(frozen=True, kw_only=True, eq=False)
class Probes:
    """Scores of every kind of feature, and the differences that were asked for."""

    scores: Sequence[ProbeScore]
    differences: Sequence[ProbeDifference]
    clips: int
    videos: int

    def score(self, features: str, criterion: str | None = None) -> ProbeScore:
        """The one of these."""
        return next(s for s in self.scores if (s.features, s.criterion) == (features, criterion))


def left_out_scores(features: Array, labels: NDArray[np.bool_], *, videos: NDArray[np.str_]) -> Array:
    """Each clip's score `(n,)` by a classifier that was fitted without its video.

    Needs `why_unjudged` to be None. Raises CalotError for a feature that is not finite.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    values = np.asarray(features, dtype=np.float64)
    if not np.isfinite(values).all():
        row, column = (int(x[0]) for x in np.nonzero(~np.isfinite(values)))
        raise CalotError(f"feature {column} of clip {row} (from 0) is {values[row, column]}, not a number to read")
    found = np.full(len(labels), np.nan)
    for fitted, tested in StratifiedGroupKFold(_folds(labels, videos)).split(values, labels, videos):
        found[tested] = _fit(values[fitted], labels[fitted], videos=videos[fitted])(values[tested])
    return found


def why_unjudged(labels: NDArray[np.bool_], *, videos: NDArray[np.str_]) -> str | None:
    """Why these labels do not suffice to leave videos out and to say how sure a score is; None where they do."""
    positive, negative = (len(np.unique(videos[part])) for part in (labels, ~labels))
    if min(positive, negative) >= FEWEST_VIDEOS:
        return None
    which = "positive" if positive < FEWEST_VIDEOS else "negative"
    return (
        f"{min(positive, negative)} of {len(np.unique(videos))} videos have a {which} clip: it takes "
        f"{FEWEST_VIDEOS} to leave videos out and to say how sure the figure is"
    )


def probe_features(
    kinds: Mapping[str, Array],
    *,
    labels: NDArray[np.int8],
    videos: NDArray[np.str_],
    given: Mapping[str, Array] | None = None,
    pairs: Sequence[tuple[str, str]] = (),
    criteria: Sequence[str] = CRITERIA,
) -> Probes:
    """Score every kind of features `(n, d)` on the same clips, whose `labels` `(n, k)` are 0 or 1.

    `given` are scores `(n, k)` that need no fitting (a run's own). `pairs` are differences, the first minus the second.
    """
    names, units = np.unique(videos, return_inverse=True)
    order = [*kinds, *(given or {})]
    whole: dict[tuple[str, str], tuple[float, Array]] = {}
    scores: list[ProbeScore] = []
    reasons: dict[str, str] = {}
    for k, criterion in enumerate(criteria):
        positive = labels[:, k] == 1
        if (why := why_unjudged(positive, videos=videos)) is not None:
            reasons[criterion] = why
        for name in order:
            if criterion in reasons:
                none = Interval(value=None, low=None, high=None, reason=reasons[criterion])
                scores.append(ProbeScore(features=name, criterion=criterion, ap=none, chance=float(positive.mean())))
                continue
            found = (
                left_out_scores(kinds[name], positive, videos=videos)
                if name in kinds
                else np.asarray((given or {})[name], dtype=np.float64)[:, k]
            )
            value = average_precision(positive.astype(int), found)
            assert value is not None
            engine = WeightedAP.of(positive, scores=found, units=units, count=len(names))
            whole[name, criterion] = value, engine(jackknife_weights(len(names)))
            count = len(np.unique(units[positive]))
            ap = interval(
                DEFAULT_METHOD, value=value, left_out=whole[name, criterion][1], drawn=None, positive_videos=count
            )
            scores.append(ProbeScore(features=name, criterion=criterion, ap=ap, chance=float(positive.mean())))
    means = _means(whole, order=order, criteria=criteria, reasons=reasons)
    chance = float(np.mean(labels == 1)) if not reasons else None
    scores += [
        ProbeScore(features=n, criterion=None, ap=_interval(means.get(n), reasons), chance=chance) for n in order
    ]
    differences = [
        ProbeDifference(features=a, less=b, criterion=c, difference=_less(of.get(a), of.get(b), reasons=why))
        for a, b in pairs
        if a in order and b in order
        for c, of, why in [
            *((c, {n: whole[n, c] for n in order if (n, c) in whole}, _only(reasons, c)) for c in criteria),
            (None, means, reasons),
        ]
    ]
    return Probes(scores=scores, differences=differences, clips=len(labels), videos=len(names))


def _only(reasons: Mapping[str, str], criterion: str) -> dict[str, str]:
    return {k: v for k, v in reasons.items() if k == criterion}


def _means(
    whole: Mapping[tuple[str, str], tuple[float, Array]],
    *,
    order: Sequence[str],
    criteria: Sequence[str],
    reasons: Mapping[str, str],
) -> dict[str, tuple[float, Array]]:
    """The mean over criteria of each kind, where every criterion is judged."""
    if reasons:
        return {}
    parts = {name: [whole[name, c] for c in criteria] for name in order}
    return {
        name: (float(np.mean([v for v, _ in held])), np.mean([left for _, left in held], axis=0))
        for name, held in parts.items()
    }


def _interval(found: tuple[float, Array] | None, reasons: Mapping[str, str]) -> Interval:
    if found is None:
        return Interval(value=None, low=None, high=None, reason=f"{', '.join(map(label, reasons))} cannot be judged")
    return interval(DEFAULT_METHOD, value=found[0], left_out=found[1], drawn=None, positive_videos=FEWEST_VIDEOS)


def _less(
    one: tuple[float, Array] | None, other: tuple[float, Array] | None, *, reasons: Mapping[str, str]
) -> Interval:
    if one is None or other is None:
        why = next(iter(reasons.values()), "") if len(reasons) == 1 else f"{len(reasons)} criteria cannot be judged"
        return Interval(value=None, low=None, high=None, reason=why)
    return plain_interval(one[0] - other[0], left_out=one[1] - other[1])


def _folds(labels: NDArray[np.bool_], videos: NDArray[np.str_]) -> int:
    """As many as leave a video with a positive, and one with a negative, to each."""
    return max(2, min(FOLDS, *(len(np.unique(videos[part])) for part in (labels, ~labels))))


def _fit(features: Array, labels: NDArray[np.bool_], *, videos: NDArray[np.str_]) -> Any:
    """What gives scores of other clips; a constant where only one label is to be seen."""
    if labels.all() or not labels.any():
        return lambda other: np.zeros(len(other))
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 1e-12 * np.maximum(1.0, np.abs(mean)), spread, np.inf)
    standard = (features - mean) / spread
    # the penalty is the same in every direction: turned into its own axes, a wide table has as many columns as rows
    _, sizes, axes = np.linalg.svd(standard, full_matrices=False)
    axes = axes[sizes > 1e-9 * max(1.0, float(sizes.max(initial=0.0)))].T
    seen = standard @ axes if axes.shape[1] else np.zeros((len(standard), 1))
    model = _logistic(_penalty(seen, labels, videos=videos), seen, labels)

    def score(other: Array) -> Array:
        turned = (other - mean) / spread @ axes if axes.shape[1] else np.zeros((len(other), 1))
        return np.asarray(model.decision_function(turned), dtype=np.float64)

    return score


def _penalty(features: Array, labels: NDArray[np.bool_], *, videos: NDArray[np.str_]) -> float:
    """The one with the best AP when a few more videos are left out; the strongest of equals."""
    from sklearn.model_selection import StratifiedGroupKFold

    if min(len(np.unique(videos[part])) for part in (labels, ~labels)) < 2:
        return PENALTIES[len(PENALTIES) // 2]
    folds = list(StratifiedGroupKFold(min(3, _folds(labels, videos))).split(features, labels, videos))
    best, chosen = -1.0, PENALTIES[0]
    for penalty in PENALTIES:
        found = np.zeros(len(labels))
        for fitted, tested in folds:
            if labels[fitted].all() or not labels[fitted].any():
                continue
            found[tested] = _logistic(penalty, features[fitted], labels[fitted]).decision_function(features[tested])
        value = average_precision(labels.astype(int), found)
        if value is not None and value > best + 1e-9:
            best, chosen = value, penalty
    return chosen


def _logistic(penalty: float, features: Array, labels: NDArray[np.bool_]) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=penalty, class_weight="balanced", max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=ConvergenceWarning)  # scores rank alike long before
        return model.fit(features, labels)
