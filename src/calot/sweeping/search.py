"""A search with Optuna whose trials depend on its seed and on the trials before, and not on how often it was killed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from calot.errors import CalotError
from calot.sweeping.packages import required
from calot.sweeping.space import Axis

_NAME, _ASKED = "calot", "asked"


@dataclass(frozen=True, kw_only=True)
class SearchTrial:
    """A trial by its number from 0: its parameters, whether it has ended, and its val mAP (a share), None without."""

    number: int
    params: Mapping[str, Any]
    ended: bool
    value: float | None


@dataclass(frozen=True)
class Search:
    """A study in SQLite, the fields that it searches, and the seed of its sampler."""

    study: Any
    space: tuple[Axis, ...]
    seed: int

    @classmethod
    def opened(cls, path: Path, *, space: Sequence[Axis], seed: int, asked: Mapping[str, Any]) -> Search:
        """A new study, or the one that is there.

        Raises CalotError where Optuna is missing, or the study was `asked` for something else.
        """
        optuna = required("optuna")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path.parent.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
        study = optuna.create_study(storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True)
        said = json.dumps({**asked, "seed": seed, "space": [repr(axis) for axis in space]}, sort_keys=True)
        was = study.user_attrs.get(_ASKED)
        if was is None:
            study.set_user_attr(_ASKED, said)
        elif was != said:
            raise CalotError(f"{path}: a search for something else ({was}). Use the same arguments, or another --out.")
        return cls(study, tuple(space), seed)

    @property
    def trials(self) -> list[SearchTrial]:
        """All trials drawn so far, in order."""
        return [
            SearchTrial(
                number=trial.number,
                params={axis.key: trial.params[axis.key] for axis in self.space},
                ended=trial.state.is_finished(),
                value=trial.value if trial.values else None,
            )
            for trial in self.study.get_trials(deepcopy=False)
        ]

    def batch(self, *, size: int, total: int) -> list[SearchTrial]:
        """The next trials to run side by side: those that were left unfinished, filled up with new ones to `size`.

        Batches begin at multiples of `size`, and a batch is drawn from the results of earlier ones alone, so that a
        search that was killed draws what an unbroken one draws.
        """
        known = self.trials
        waiting = next((trial.number for trial in known if not trial.ended), len(known))
        end = min((waiting // size + 1) * size, total)
        for _ in range(len(known), end):
            self._draw()
        return [trial for trial in self.trials[:end] if not trial.ended]

    def _draw(self) -> None:
        """Draw one trial in a copy in memory, and add it to the study at once with all its parameters."""
        optuna = required("optuna")
        known = self.study.get_trials(deepcopy=True)
        seed = int(np.random.SeedSequence([self.seed, len(known)]).generate_state(1)[0])
        copy = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        copy.add_trials(known)
        space = {axis.key: axis.distribution(optuna) for axis in self.space}
        drawn = copy.ask(space)
        made = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, params=drawn.params, distributions=space
        )
        made.datetime_start = datetime.now()
        self.study.add_trial(made)

    def tell(self, number: int, value: float | None) -> None:
        """End a trial with its value, or without one where its parameters could not be trained."""
        failed = required("optuna").trial.TrialState.FAIL
        self.study.tell(number, value) if value is not None else self.study.tell(number, state=failed)
