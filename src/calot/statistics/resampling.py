"""Average precision of thousands of reweighted tables at once: sort once, then only multiply and add.

A bootstrap replicate that draws video v m_v times, or a jackknife replicate that leaves it out (m_v = 0), has the AP of
the original frames weighted by m. The sort does not depend on m, so it is done once. Only tie groups that hold a
positive add to AP = sum_k (R_k - R_(k-1)) P_k; the weight up to each such group is a cumulative sum over the positives'
groups, not over all frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix

from calot.errors import CalotError
from calot.statistics.predictions import Predictions, same_rows

Array = NDArray[np.float64]
CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightedAP:
    """AP of one criterion as a function of unit weights; `frames` and `positives` count them per tie group (rows) and
    unit (columns).
    """

    frames: Any
    positives: Any

    @classmethod
    def of(cls, labels: ArrayLike, *, scores: ArrayLike, units: ArrayLike, count: int) -> WeightedAP:
        """Sort frames by falling score; `units` numbers each frame's video 0 ... count - 1."""
        score = np.asarray(scores, dtype=np.float64)
        order = np.argsort(-score, kind="stable")
        score, unit, positive = score[order], np.asarray(units)[order], np.asarray(labels)[order].astype(bool)
        last = np.r_[np.flatnonzero(score[1:] != score[:-1]), len(score) - 1]  # last row of every tie group
        holds = np.diff(np.r_[0, np.cumsum(positive)[last]]) > 0
        ends = last[holds]
        rows = int(ends[-1]) + 1 if len(ends) else 0
        group, unit, positive = np.searchsorted(ends, np.arange(rows)), unit[:rows], positive[:rows]
        shape, one = (len(ends), count), np.ones(rows)
        return cls(
            frames=csr_matrix((one, (group, unit)), shape=shape),
            positives=csr_matrix((one[positive], (group[positive], unit[positive])), shape=shape),
        )

    def __call__(self, weights: ArrayLike) -> Array:
        """AP for each row of non-negative `weights` (replicates, units); NaN where a replicate holds no positive."""
        weight = np.asarray(weights)
        out = np.full(len(weight), np.nan)
        groups = self.frames.shape[0]
        if groups == 0:
            return out
        step = max(1, CHUNK_BYTES // (8 * groups))
        for start in range(0, len(weight), step):
            chunk = np.ascontiguousarray(weight[start : start + step].T, dtype=np.float64)
            called, gained = np.asarray(self.frames @ chunk), np.asarray(self.positives @ chunk)
            np.cumsum(called, axis=0, out=called)
            found = np.cumsum(gained, axis=0)
            total = found[-1].copy()
            np.divide(found, called, out=found, where=called > 0)
            found *= gained
            np.divide(found.sum(axis=0), total, out=out[start : start + step], where=total > 0)
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampler:
    """Weighted AP of every seed and criterion over one set of videos."""

    tables: tuple[Predictions, ...]
    engines: tuple[tuple[WeightedAP, ...], ...]
    videos: tuple[str, ...]
    criteria: tuple[str, ...]
    positive_videos: tuple[int, ...]

    @classmethod
    def of(cls, tables: Sequence[Predictions]) -> Resampler:
        """`tables` are seeds of one run: same rows, same labels (else CalotError)."""
        parts = [part for table in tables for part in table.by_seed()]
        for part in parts[1:]:
            difference = same_rows(parts[0], part)
            if difference is not None:
                raise CalotError(f"{parts[0].source} and {part.source} cannot be averaged: {difference}")
        names, units = np.unique(parts[0].videos, return_inverse=True)
        labels = parts[0].labels
        columns = range(labels.shape[1])
        engines = tuple(
            tuple(WeightedAP.of(labels[:, k], scores=part.logits[:, k], units=units, count=len(names)) for k in columns)
            for part in parts
        )
        spread = tuple(len(np.unique(units[labels[:, k] == 1])) for k in columns)
        return cls(
            tables=tuple(parts),
            engines=engines,
            videos=tuple(names.tolist()),
            criteria=parts[0].criteria,
            positive_videos=spread,
        )

    def ap(self, weights: ArrayLike) -> Array:
        """(replicates, seeds, criteria)."""
        return np.stack([np.stack([engine(weights) for engine in seed], axis=-1) for seed in self.engines], axis=1)


def bootstrap_weights(count: int, *, replicates: int, seed: int = 0) -> NDArray[np.int32]:
    """Multiplicities of `count` units drawn with replacement, (replicates, units)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1.0 / count), size=replicates).astype(np.int32)


def jackknife_weights(count: int) -> NDArray[np.int32]:
    """All units but one, (units, units)."""
    return np.asarray(1 - np.eye(count, dtype=np.int32), dtype=np.int32)
