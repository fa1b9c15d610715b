"""Does time matter, and do small structures? Oracles of one frame and of a window beside what sees little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calot.phantom.probes import PICTURE_PROBES, best_scores
from calot.phantom.rows import AuditRow
from calot.phantom.statistics import LETTERS
from calot.phantom.windows import MASKS, ONE, TIME, WINDOW, Window, window_features
from calot.statistics.intervals import percentile
from calot.statistics.resampling import WeightedAP, bootstrap_weights

#: mAP points: by how much the masks of a window must beat those of one frame, what sees little, and chance.
BY_TIME, BY_DETAIL, BY_SIGHT = 0.05, 0.15, 0.05
BEST, STILL, PIXELS = f"{MASKS}, {WINDOW}", f"{MASKS}, {ONE}", f"64 x 64 pixels, {WINDOW}"
#: What must stay below the masks: what it sees is not what the raters judge.
COARSE = (TIME, *(f"{name}, {seen}" for name in ("colour histogram", "8 x 8 thumbnail") for seen in (ONE, WINDOW)))
TABLE = (TIME, *(f"{name}, {seen}" for name in (*PICTURE_PROBES, MASKS) for seen in (ONE, WINDOW)))
REPLICATES = 2000


@dataclass(frozen=True)
class ResampledAP:
    """One classifier's AP by criterion: the value, and over bootstrap draws of videos (replicate x criterion)."""

    value: NDArray[np.float64]
    drawn: NDArray[np.float64]


def oracle_rows(train: Sequence[Window], test: Sequence[Window], *, truth: Path, workers: int) -> list[AuditRow]:
    """AP of every classifier fitted on train and scored on test, and the margins; intervals are over test's videos."""
    seen, held = (window_features(windows, truth=truth, workers=workers) for windows in (train, test))
    train_labels, labels = (np.asarray([w.labels for w in windows], np.int8) for windows in (train, test))
    names, units = np.unique([w.video for w in test], return_inverse=True)
    measured = {}
    for name in TABLE:
        scores = best_scores(seen[name], train_labels, test=held[name], test_labels=labels)
        measured[name] = resampled_ap(scores, labels=labels, units=units, count=len(names))
    rows = []
    for name, found in measured.items():
        for k, letter in enumerate(LETTERS):
            rows.append(_row(f"AP {letter}, {name}", found.value[k], found.drawn[:, k]))
        rows.append(_row(f"mAP, {name}", found.value.mean(), found.drawn.mean(axis=1)))
    chance = float(labels.mean())
    rows.append(AuditRow("chance (mean prevalence of val and test)", chance))
    margins = [(BEST, STILL, BY_TIME), *((BEST, name, BY_DETAIL) for name in COARSE)]
    for more, less, least in margins:
        a, b = measured[more], measured[less]
        drawn = a.drawn.mean(axis=1) - b.drawn.mean(axis=1)
        rows.append(_row(f"{more} minus {less}", a.value.mean() - b.value.mean(), drawn, low=least))
    pixels = measured[PIXELS]
    drawn = pixels.drawn.mean(axis=1) - chance
    rows.append(_row(f"{PIXELS} minus chance", pixels.value.mean() - chance, drawn, low=BY_SIGHT))
    return rows


def resampled_ap(
    scores: NDArray[np.float64], *, labels: NDArray[np.int8], units: NDArray[np.int64], count: int
) -> ResampledAP:
    """AP of one table of scores, with 2,000 bootstrap draws of its `count` videos; `units` numbers each row's."""
    weights = np.concatenate([np.ones((1, count), np.int32), bootstrap_weights(count, replicates=REPLICATES)])
    aps = []
    for k in range(labels.shape[1]):
        if np.isfinite(scores[:, k]).all():
            aps.append(WeightedAP.of(labels[:, k], scores=scores[:, k], units=units, count=count)(weights))
        else:
            aps.append(np.full(len(weights), np.nan))
    table = np.stack(aps, axis=1)
    return ResampledAP(table[0], table[1:])


def _row(name: str, value: float, drawn: NDArray[np.float64], *, low: float | None = None) -> AuditRow:
    if not np.isfinite(value):  # a criterion without positives on either side: nothing was shown, so nothing holds
        return AuditRow(name, float("nan"), low=low)
    found = percentile(drawn, value=float(value))
    ends = None if found.low is None or found.high is None else (found.low, found.high)
    return AuditRow(name, float(value), low=low, interval=ends)
