"""How optimistic the best of several epochs is about itself: chosen on half of the videos, looked at on the other half.

Over random halves A and B of the videos, the epoch with the highest mAP on A leads the mean of all epochs by more on A
than on B; the mean of that surplus is the optimism of choosing on half of the videos, without bias. On all of them
noise is smaller by the root of 2, and so is the surplus where epochs are about equally good; where some are clearly
better it is smaller still, so that the figure given is rather too high than too low.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.errors import CalotError
from calot.provenance.custody import Identity, require_own
from calot.statistics.predictions import Predictions, load_predictions
from calot.statistics.resampling import Resampler

HALVINGS = 200
FOLDER = "epochs"
NOT_KEPT = "the run kept no predictions of single epochs (a bare table, an import, a combination, or an older run)"
CHOSEN_ON_VAL = "the epoch was chosen on val, not on this split"
_NAME = re.compile(r"stage(\d+)_epoch(\d+)\.parquet")


@dataclass(frozen=True, kw_only=True)
class Optimism:
    """Points of mAP (as a share) by which choosing among `epochs` flatters the one chosen; `reason` says why it is
    None."""

    epochs: int | None
    value: float | None
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the sentence."""
        return asdict(self) | {"said": str(self)}

    def __str__(self) -> str:
        among = "epochs" if self.epochs is None else f"the best of {self.epochs} epochs"
        if self.value is None:
            return f"of choosing among epochs not estimated: {self.reason}"
        return f"choosing {among} by this val mAP flatters it by about {100 * self.value:.1f} points"


def epoch_file(run: Path, *, stage: int, epoch: int) -> Path:
    """Where a run keeps the validation predictions of one epoch, both counted from 1."""
    return run / FOLDER / f"stage{stage}_epoch{epoch:03d}.parquet"


def optimism_of_run(run: Path | None, *, split: str) -> Optimism:
    """Of the last stage's epochs, among which a run's model was chosen. Raises CalotError for another run's table."""
    if split != "val":
        return Optimism(epochs=None, value=None, reason=CHOSEN_ON_VAL)
    files = [] if run is None else sorted((run / FOLDER).glob("*.parquet"))
    named = {path: match for path in files if (match := _NAME.fullmatch(path.name))}
    if run is None or not named:
        return Optimism(epochs=None, value=None, reason=NOT_KEPT)
    last = max(int(match[1]) for match in named.values())
    chosen_from = [path for path, match in named.items() if int(match[1]) == last]
    own, tables = Identity.of_run(run), []
    for path in chosen_from:
        tables.append(load_predictions(path).with_labels())
        require_own(tables[-1], own=own, where=path)
        if not tables[-1].labelled:
            raise CalotError(f"{path}: holds no labels; restore it from a copy, or train again")
    return optimism(tables)


def optimism(epochs: Sequence[Predictions], *, halvings: int = HALVINGS, seed: int = 0) -> Optimism:
    """Of choosing the epoch with the highest mAP; `epochs` are predictions of the same frames."""
    if len(epochs) < 2:
        return Optimism(epochs=len(epochs), value=None, reason="one epoch leaves no choice")
    found = surplus_of_choice([[epoch] for epoch in epochs], halvings=halvings, seed=seed)
    return Optimism(epochs=len(epochs), value=found.value, reason=found.reason)


@dataclass(frozen=True, kw_only=True)
class Surplus:
    """By how much (mAP, a share) the best of several flatters itself; `reason` says why `value` is None."""

    value: float | None
    reason: str | None


def surplus_of_choice(choices: Sequence[Sequence[Predictions]], *, halvings: int = HALVINGS, seed: int = 0) -> Surplus:
    """Of choosing by mean mAP among groups of equally many predictions (a setting's seeds), all of the same frames."""
    count = len(choices)
    if count < 2:
        return Surplus(value=None, reason="one setting leaves no choice")
    engine = Resampler.of([table for choice in choices for table in choice])
    videos, columns = len(engine.videos), [k for k, held in enumerate(engine.positive_videos) if held]
    halves = _halves(videos, count=halvings, seed=seed)
    ap = engine.ap(np.concatenate([halves, 1 - halves]))[:, :, columns].mean(axis=2)
    ap = ap.reshape(len(ap), count, -1).mean(axis=2)
    here, there = np.concatenate([ap, np.roll(ap, halvings, axis=0)], axis=1).reshape(-1, 2, count).swapaxes(0, 1)
    usable = ~np.isnan(here).any(axis=1) & ~np.isnan(there).any(axis=1)
    if not columns or usable.mean() < 0.5:
        return Surplus(value=None, reason="too few videos have a positive label to halve them")
    here, there = here[usable], there[usable]
    best, rows = here.argmax(axis=1), np.arange(len(here))
    surplus = (here[rows, best] - here.mean(axis=1)) - (there[rows, best] - there.mean(axis=1))
    return Surplus(value=float(max(surplus.mean() / np.sqrt(2), 0.0)), reason=None)


def _halves(videos: int, *, count: int, seed: int) -> NDArray[np.int32]:
    """Rows that have a random half of the videos, (count, videos)."""
    half = (np.arange(videos) < videos // 2).astype(np.int32)
    return np.random.default_rng([seed, videos]).permuted(np.tile(half, (count, 1)), axis=1)
