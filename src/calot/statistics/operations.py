"""Figures over whole operations, each with its interval: decisions on operations, flips, false alarms, detection.

An operation counts once in a share (exact binomial interval); rates over time are ratios of sums over operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from calot.statistics.intervals import Interval
from calot.statistics.jackknife import exact_interval, plain_interval, without_each


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Decisions on whole operations, counted; each rate has an exact binomial interval."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval


@dataclass(frozen=True, kw_only=True)
class OperationRates:
    """One criterion over all operations.

    `flips_per_minute` and `false_alarms_per_hour` are totals over total time. `detected` is the share of operations
    with a positive label that were called at or after it, `detection_seconds` the mean delay of these.
    """

    flips_per_minute: Interval
    false_alarms_per_hour: Interval
    detected: Interval
    detection_seconds: Interval


def decided_operations(achieved: Sequence[bool], *, called: Sequence[bool]) -> Operations:
    """Count decisions on operations against the truth."""
    truth, said = np.asarray(achieved, dtype=bool), np.asarray(called, dtype=bool)
    tp, fp = int((truth & said).sum()), int((~truth & said).sum())
    fn, tn = int((truth & ~said).sum()), int((~truth & ~said).sum())
    return Operations(
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        true_negatives=tn,
        sensitivity=exact_interval(tp, whole=tp + fn, reason="all three criteria held in no operation"),
        specificity=exact_interval(tn, whole=tn + fp, reason="all three criteria held in every operation"),
        ppv=exact_interval(tp, whole=tp + fp, reason="no operation is called"),
        npv=exact_interval(tn, whole=tn + fn, reason="every operation is called"),
    )


def rate_over_operations(rates: Sequence[float | None], *, durations: Sequence[float | None], reason: str) -> Interval:
    """Total events over total time, from each operation's rate and duration (in the rate's unit of time)."""
    pairs = [(r * d, d) for r, d in zip(rates, durations, strict=True) if r is not None and d is not None]
    if not pairs:
        return Interval(value=None, low=None, high=None, reason=reason)
    sums = np.asarray(pairs)
    left_out = without_each(sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        without = left_out[:, 0] / left_out[:, 1]
    return plain_interval(float(sums[:, 0].sum() / sums[:, 1].sum()), left_out=without, floor=0.0)


def mean_over_operations(values: ArrayLike, *, reason: str) -> Interval:
    """Mean of one value per operation; the jackknife is then the t interval of a mean."""
    found = np.asarray(values, dtype=np.float64)
    if not len(found):
        return Interval(value=None, low=None, high=None, reason=reason)
    with np.errstate(divide="ignore", invalid="ignore"):
        without = without_each(found) / (len(found) - 1)
    return plain_interval(float(found.mean()), left_out=without, floor=0.0)
