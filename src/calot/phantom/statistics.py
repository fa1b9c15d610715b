"""What a set of votes looks like, and what the real train tables look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calot.statistics.agreement import cohen_kappa, fleiss_kappa

LETTERS = ("C1", "C2", "C3")
REAL_VIDEOS, REAL_KEYFRAMES = 120, 58  # and keyframes per video, on average
PAIRS = ((0, 1), (0, 2), (1, 2))


@dataclass(frozen=True)
class Band:
    """A statistic of the real train keyframes, and how far a phantom may lie from it."""

    target: float
    tolerance: float
    fixed: bool = False  # the phantom sets this figure itself
    by_length: bool = False  # it is meaningful only for videos of the real length

    def ends(self, *, videos: int) -> tuple[float, float]:
        """Least and greatest value that pass for a phantom of this many videos: the tolerance grows as chance does in
        sets smaller than the real one, except where the phantom sets the figure itself (`fixed`)."""
        wider = 1.0 if self.fixed else max(1.0, (REAL_VIDEOS / videos) ** 0.5)
        return self.target - self.tolerance * wider, self.target + self.tolerance * wider


def _bands(
    names: Sequence[str], targets: Sequence[float], tolerance: float, *, fixed: bool = False, by_length: bool = False
) -> dict[str, Band]:
    return {
        name: Band(target, tolerance, fixed=fixed, by_length=by_length)
        for name, target in zip(names, targets, strict=True)
    }


#: Measured on the 6,960 real train keyframes of 120 videos (majority of three raters unless a rater is named). The
#: tolerances are the design's (prevalence: two points) or about what a resample of the real videos moves by.
REAL: dict[str, Band] = {
    **_bands([f"prevalence {c}" for c in LETTERS], (0.156, 0.112, 0.179), 0.02, fixed=True),
    **_bands(["all three negative"], (0.722,), 0.04),
    **_bands(["all three positive"], (0.053,), 0.025),
    **_bands([f"rise per keyframe {c}" for c in LETTERS], (0.053, 0.033, 0.042), 0.015, by_length=True),
    **_bands([f"fall per keyframe {c}" for c in LETTERS], (0.274, 0.222, 0.171), 0.06),
    **_bands([f"Fleiss kappa {c}" for c in LETTERS], (0.300, 0.499, 0.404), 0.10),
    **_bands([f"Cohen kappa {c} raters 1, 2" for c in LETTERS], (0.153, 0.423, 0.329), 0.12),
    **_bands([f"Cohen kappa {c} raters 1, 3" for c in LETTERS], (0.093, 0.414, 0.434), 0.12),
    **_bands([f"Cohen kappa {c} raters 2, 3" for c in LETTERS], (0.612, 0.640, 0.480), 0.12),
    **_bands([f"correlation {LETTERS[a]}, {LETTERS[b]}" for a, b in PAIRS], (0.483, 0.283, 0.510), 0.12),
    **_bands([f"videos with {c}" for c in LETTERS], (0.558, 0.483, 0.500), 0.15, by_length=True),
    **_bands(["videos with any criterion"], (0.758,), 0.15, by_length=True),
    **_bands(["videos with all three at once"], (0.275,), 0.15, by_length=True),
}

Votes = NDArray[np.int8]


def _steps(majority: Sequence[NDArray[np.int8]], *, k: int, start: int) -> float:
    """Share of keyframes at `start` (0 or 1) whose next keyframe differs."""
    before = np.concatenate([m[:-1, k] for m in majority])
    after = np.concatenate([m[1:, k] for m in majority])
    at = before == start
    return float((after[at] != start).mean()) if at.any() else 0.0


def _correlation(a: NDArray[np.int8], b: NDArray[np.int8]) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def describe_votes(votes: Sequence[Votes]) -> dict[str, float]:
    """Every statistic of `REAL` for the votes (keyframe x rater x criterion) of a set of videos."""
    majority = [np.asarray(v.sum(axis=1) >= 2, dtype=np.int8) for v in votes]
    all_votes, labels = np.concatenate(list(votes)), np.concatenate(majority)
    ever = np.stack([m.any(axis=0) for m in majority])
    found: dict[str, float] = {
        "all three negative": float((labels.sum(axis=1) == 0).mean()),
        "all three positive": float((labels.sum(axis=1) == 3).mean()),
        "videos with any criterion": float(ever.any(axis=1).mean()),
        "videos with all three at once": float(np.mean([(m.sum(axis=1) == 3).any() for m in majority])),
    }
    for k, letter in enumerate(LETTERS):
        found[f"prevalence {letter}"] = float(labels[:, k].mean())
        found[f"rise per keyframe {letter}"] = _steps(majority, k=k, start=0)
        found[f"fall per keyframe {letter}"] = _steps(majority, k=k, start=1)
        found[f"Fleiss kappa {letter}"] = fleiss_kappa(all_votes[:, :, k]) or 0.0
        found[f"videos with {letter}"] = float(ever[:, k].mean())
        for a, b in PAIRS:
            found[f"Cohen kappa {letter} raters {a + 1}, {b + 1}"] = (
                cohen_kappa(all_votes[:, a, k], all_votes[:, b, k]) or 0.0
            )
    for a, b in PAIRS:
        found[f"correlation {LETTERS[a]}, {LETTERS[b]}"] = _correlation(labels[:, a], labels[:, b])
    return {name: found[name] for name in REAL}
