"""Agreement of raters beyond chance, from their 0/1 votes."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def cohen_kappa(one: NDArray[Any], other: NDArray[Any], /) -> float | None:
    """(observed - chance) / (1 - chance) agreement of two raters' 0/1 votes; None where chance agreement is total."""
    observed = float((one == other).mean())
    chance = float(one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean()))
    return (observed - chance) / (1 - chance) if chance < 1 else None


def fleiss_kappa(votes: NDArray[Any]) -> float | None:
    """Agreement of all raters beyond chance (Fleiss 1971), from 0/1 votes `(frame, rater)`."""
    raters = votes.shape[1]
    yes = votes.sum(axis=1)
    observed = float(((yes * (yes - 1) + (raters - yes) * (raters - yes - 1)) / (raters * (raters - 1))).mean())
    share = float(votes.mean())
    chance = share**2 + (1 - share) ** 2
    return (observed - chance) / (1 - chance) if chance < 1 else None
