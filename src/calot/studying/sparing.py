"""What a study at tiny scale spares, so that all experiments with five seeds take three hours of two cores."""

from __future__ import annotations

from collections.abc import Sequence

from calot.experiment import TINY
from calot.experiments import resolve

#: A small data set's training clips would all be scored, and its many validation clips after each epoch, which
#: together takes as long as the training.
_SCORING = {"compute.train_subset": "32", "train.score_every": "3"}
#: No stage is longer, and none warms up for longer.
_EPOCHS, _WARMUP = 5, 2


def sparing(changes: Sequence[str], *, scale: str) -> list[str]:
    """The changes, and at tiny scale what scores less, where they do not say themselves what is scored or how long."""
    typed = _fields(changes)
    if scale != TINY or typed & {"train", "compute"}:
        return [*changes]
    own = {field: value for field, value in _SCORING.items() if field not in typed}
    if "train.epochs" in typed:
        own.pop("train.score_every", None)
    return [*changes, *(f"{field}={value}" for field, value in own.items())]


def shortened(name: str, changes: Sequence[str], *, scale: str) -> list[str]:
    """The changes of one experiment that shorten its stages at tiny scale, where nobody typed how long they are.

    An experiment whose point is to be short stays as short as it is. Raises CalotError for one that cannot be resolved.
    """
    typed = _fields(changes)
    if scale != TINY or typed & {"train", "train.epochs", "then"}:
        return []
    words = []
    for number, stage in enumerate(resolve(name, overrides=changes, scale=scale).experiment.stages):
        at = f"then.{number - 1}" if number else "train"
        words += [f"{at}.epochs={_EPOCHS}"] if stage.epochs > _EPOCHS else []
        if stage.warmup > _WARMUP and f"{at}.warmup" not in typed:
            words.append(f"{at}.warmup={_WARMUP}")
    return words


def _fields(changes: Sequence[str]) -> set[str]:
    return {change.partition("=")[0] for change in changes}
