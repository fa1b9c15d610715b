"""What a study at tiny scale spares, so that all experiments with five seeds take two hours of two cores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from calot.experiment import TINY
from calot.experiments import resolve

#: A small data set's training clips would all be scored.
_SUBSET = "compute.train_subset=32"
#: Stages and their warm-ups are this many times shorter. Val is scored after a stage's last epoch alone: the many
#: validation clips that intervals need take as long to score as half an epoch of training.
_SHORTER = 3


def sparing(changes: Sequence[str], *, scale: str) -> list[str]:
    """The changes, and at tiny scale what scores fewer training clips, unless they say themselves what is scored."""
    typed = _fields(changes)
    spared = [] if scale != TINY or typed & {"train", "compute", "compute.train_subset"} else [_SUBSET]
    return [*changes, *spared]


def shortened(name: str, changes: Sequence[str], *, scale: str) -> list[str]:
    """The changes of one experiment that shorten its stages at tiny scale and score each once, where nobody typed how
    long they are.

    All in the same proportion, so that a shorter recipe stays shorter than a longer one. Raises CalotError for an
    experiment that cannot be resolved.
    """
    typed = _fields(changes)
    if scale != TINY or typed & {"train", "train.epochs", "then"}:
        return []
    words = []
    for number, stage in enumerate(resolve(name, overrides=changes, scale=scale).experiment.stages):
        at = f"then.{number - 1}" if number else "train"
        epochs = math.ceil(stage.epochs / _SHORTER)
        found = {"epochs": epochs, "warmup": round(stage.warmup / _SHORTER, 2), "score_every": epochs}
        words += [f"{at}.{k}={v:g}" for k, v in found.items() if f"{at}.{k}" not in typed]
    return words


def _fields(changes: Sequence[str]) -> set[str]:
    return {change.partition("=")[0] for change in changes}
