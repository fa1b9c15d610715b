"""The mean of several predictions of the same clips: of their logits, or of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calot.errors import CalotError
from calot.provenance.combination import Combination, Mean
from calot.statistics.predictions import Predictions, require_same_facts, same_rows
from calot.statistics.schema import LOGITS

Array = NDArray[np.float64]


def averaged(tables: Sequence[Predictions], *, combination: Combination, refusal: str) -> Predictions:
    """One table of the mean of several, of one seed each, under the combination's own fingerprint and seed.

    Labels are those of the first, which all share. Raises CalotError beginning with `refusal` where data set, split,
    protocol, manifest, clips or labels differ. The order of the tables makes no difference, not even in the last bit.
    """
    first = tables[0]
    for table in tables:
        if len(table.seeds) != 1:
            raise CalotError(f"{refusal}: {table.source} holds {len(table.seeds)} seeds; split it, one seed to a table")
    require_same_facts(tables, refusal=refusal)
    for table in tables[1:]:
        if (difference := same_rows(first, table)) is not None:
            raise CalotError(f"{refusal}: {first.source} and {table.source}: {difference}")
    logits = mean_logits([table.logits for table in tables], mean=combination.mean)
    columns = [pl.Series(name, logits[:, k]) for k, name in enumerate(LOGITS)]
    frame = first.frame.with_columns(*columns, pl.lit(combination.seed, dtype=pl.Int64).alias("seed"))
    return replace(first, frame=frame, fingerprint=combination.fingerprint, combination=combination)


def mean_logits(logits: Sequence[NDArray[np.float32]], *, mean: Mean) -> NDArray[np.float32]:
    """The mean of arrays of raw logits, each sum rounded once; a single array comes back bit for bit.

    The mean of probabilities is given as its logit, log(sum p) - log(sum (1 - p)), which saturated scores do not make
    infinite.
    """
    if len(logits) == 1:
        return logits[0]
    return _RULES[mean](np.stack(logits).astype(np.float64)).astype(np.float32)


def _mean(values: Array) -> Array:
    return _summed(values) / len(values)


def _logit_of_mean(values: Array) -> Array:
    return _log_of_sum(-np.logaddexp(0.0, -values)) - _log_of_sum(-np.logaddexp(0.0, values))


def _log_of_sum(logs: Array) -> Array:
    largest = logs.max(axis=0)
    return np.asarray(largest + np.log(_summed(np.exp(logs - largest))))


def _summed(values: Array) -> Array:
    """Sums over the first axis, exact but for one rounding, so that their order does not matter."""
    flat = values.reshape(len(values), -1)
    return np.array([math.fsum(column) for column in flat.T]).reshape(values.shape[1:])


_RULES: dict[Mean, Callable[[Array], Array]] = {"logits": _mean, "probabilities": _logit_of_mean}
