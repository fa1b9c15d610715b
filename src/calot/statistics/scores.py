"""Scores as raw logits, whatever a table calls them: probabilities are converted or refused, never guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from calot.errors import CalotError
from calot.statistics.schema import LOGITS, PROBABILITIES, first_row, numbers

Array = NDArray[np.float64]

#: Rounding beyond [0, 1] that a column of probabilities may show.
_SLACK = 1e-6
#: How far the probability of a logit may lie from the one in the column beside it: half a per cent, for rounded ones.
_AGREE = 5e-3
#: The least logit of a clipped score: a probability of a millionth.
_EDGE = float(np.log(1e6))
#: A logit of this size is a probability of 1 to 13 digits; a column without negatives that exceeds it has no logits.
_LARGEST_LOGIT = 30.0


@dataclass(frozen=True, kw_only=True)
class ScoreRule:
    """What a person says about a table's scores. `kind` is what `logit_*` contains: raw logits or probabilities; None
    means: inspect them.

    `clip` puts probabilities of exactly 0 and 1 beyond all others, as ties.
    """

    kind: Literal["logits", "probabilities"] | None = None
    clip: bool = False


def as_logits(table: pl.DataFrame, *, scores: ScoreRule, source: str) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The table with raw logits under `logit_*`, and what was done in words."""
    notes: list[str] = []
    columns: list[pl.Series] = []
    converted: list[str] = []
    for logit, probability in zip(LOGITS, PROBABILITIES, strict=True):
        if logit in table.columns and scores.kind != "probabilities":
            if probability in table.columns:
                _refuse_disagreement(table[logit], probability=table[probability], source=source)
            continue
        name = logit if logit in table.columns else probability
        if name in table.columns:
            values, said = _logits_of(numbers(table[name], source=source), name=name, clip=scores.clip, source=source)
            columns.append(pl.Series(logit, values))
            converted.append(name)
            notes += said
    if converted:
        notes.insert(0, f"probabilities converted to logits by log(p / (1 - p)): {', '.join(converted)}")
    return table.with_columns(columns), tuple(notes)


def refuse_probabilities(table: pl.DataFrame, *, among: Sequence[str], source: str) -> None:
    """Raises CalotError where a column of logits, of those read from a file, looks like probabilities or percentages.

    A model's logits are not all between 0 and 1, nor all positive and beyond 30.
    """
    remedy = "--scores probabilities reads them so, --scores logits takes them as raw logits anyway"
    for name in LOGITS:
        low, high = float(table[name].min()), float(table[name].max())  # type: ignore[arg-type]
        if name not in among or low < -_SLACK or low == high == 0:
            continue
        if high <= 1 + _SLACK:
            raise CalotError(
                f"{source}: every score in {name} lies between 0 and 1: these look like probabilities, and Brier "
                f"score, calibration and thresholds of probabilities taken as logits are wrong. {remedy}"
            )
        if _LARGEST_LOGIT < high <= 100:
            raise CalotError(
                f"{source}: every score in {name} lies between 0 and 100: these look like percentages. Divide them by "
                "100 and use --scores probabilities; --scores logits takes them as raw logits anyway"
            )


def _refuse_disagreement(logit: pl.Series, *, probability: pl.Series, source: str) -> None:
    """Two columns of one score must agree."""
    logits, stated = numbers(logit, source=source), numbers(probability, source=source)
    bad = ~(np.abs(expit(logits) - stated) <= _AGREE)
    if bad.any():
        row = first_row(bad)
        raise CalotError(
            f"{source}: {logit.name} and {probability.name} disagree in data row {row}: {logits[row - 1]:g} is a "
            f"probability of {expit(logits[row - 1]):.4f}, not {stated[row - 1]:g}. Leave one of the two columns out"
        )


def _logits_of(values: Array, *, name: str, clip: bool, source: str) -> tuple[Array, list[str]]:
    """log(p / (1 - p)); exactly 0 or 1 has no logit and is an error unless clipped, because its order is lost."""
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        row = first_row(bad)
        percent = " Divide percentages by 100." if 2 < np.nanmax(values) <= 100 and np.nanmin(values) >= 0 else ""
        raise CalotError(
            f"{source}: {name} in data row {row} is {values[row - 1]:g}; a probability lies between 0 and 1.{percent}"
        )
    ends = (values == 0) | (values == 1)
    if not ends.any():
        return _log_odds(values), []
    if not clip:
        row = first_row(ends)
        raise CalotError(
            f"{source}: {name} in data row {row} is {values[row - 1]:g}, one of {int(ends.sum()):,} of exactly 0 or 1: "
            f"saturated scores, whose order is lost. Store raw logits as {name.replace('prob_', 'logit_')} instead, or "
            "score them as ties with --clip-probabilities"
        )
    logits = np.zeros_like(values)
    logits[~ends] = _log_odds(values[~ends])
    edge = max(_EDGE, float(np.abs(logits).max()) + np.log(2))
    logits[ends] = np.where(values[ends] == 1, edge, -edge)
    counts = f"{int((values == 0).sum()):,} of exactly 0 and {int((values == 1).sum()):,} of exactly 1"
    said = (
        f"{name}: {counts} among {len(values):,} scores, taken as logits of -{edge:.1f} and {edge:.1f}; they are ties: "
        "their order is lost, and Brier score and calibration rest on where they were put"
    )
    return logits, [said]


def _log_odds(values: Array) -> Array:
    return np.asarray(np.log(values) - np.log1p(-values), dtype=np.float64)
