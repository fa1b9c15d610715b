"""The order of a study's runs: seed by seed, baselines first, those of one frozen backbone next to each other."""

from __future__ import annotations

from collections.abc import Sequence

from calot.experiment import Experiment
from calot.models.adaptation import Frozen
from calot.run.request import Request


def in_order(requests: Sequence[Request]) -> list[Request]:
    """All runs of the first seed, then of the next: each experiment's checks are measured once the others come.

    Within a seed an experiment follows its baseline, and features that a frozen backbone gave are read by the next ones
    before others are made.
    """
    seeds = list(dict.fromkeys(request.seed for request in requests))
    first = [request for request in requests if request.seed == seeds[0]]
    names = [r.experiment.name for r in _baselines_first(first)]
    return sorted(requests, key=lambda r: (seeds.index(r.seed), names.index(r.experiment.name)))


def _baselines_first(requests: Sequence[Request]) -> list[Request]:
    left, placed = list(requests), list[Request]()
    while left:
        waiting = {request.experiment.name for request in left}
        free = [r for r in left if r.experiment.baseline not in waiting] or left
        last = placed[-1].experiment if placed else None
        chosen = next((r for r in free if last is not None and shares_features(r.experiment, last)), free[0])
        placed.append(chosen)
        left.remove(chosen)
    return placed


def shares_features(one: Experiment, other: Experiment) -> bool:
    """Whether both begin with the same frozen backbone on the same clips, seen in the same views."""

    def seen(experiment: Experiment) -> tuple[object, ...]:
        return (
            *(experiment.backbone, experiment.train.adaptation, experiment.protocol, experiment.clip),
            *(experiment.geometry, tuple(experiment.augment)),
        )

    return isinstance(one.train.adaptation, Frozen) and seen(one) == seen(other)
