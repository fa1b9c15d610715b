"""The gallbladder turned over every few seconds: a criterion has two sides, and a frame shows one of them.

The Critical View of Safety asks for the view from the front and from behind (the doublet view). Each criterion's two
sides have a latent number of their own: one has the criterion's own, the other is ahead of it. What is judged is the
worse of the two, each as it was last seen, so no single frame settles a criterion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.phantom.dynamics import CORRELATION, Floats, State, exposed, latent_of, spells
from calot.phantom.plan import VideoPlan

FRONT, BACK = 0, 1

#: How far one side is ahead of the other, in the state's unit: per video, and in spells of this many seconds.
AHEAD_LEVEL_SD, AHEAD_SPELL_SD, AHEAD_SECONDS = 3.0, 1.2, 40.0
#: Seconds-long spells of each side's own: the hand that turns the gallbladder does not hold still.
HELD_SD, HELD_SECONDS = 0.4, 5.0
#: How long one is shown: between these shares of `PhantomSpec.turn_seconds`, in whole seconds and for two at least.
SHORTEST, LONGEST_SHARE = 0.75, 1.25

#: The criterion of each structure in `STRUCTURES`.
CRITERION_OF = (0, 0, 1, 2)


@dataclass(frozen=True)
class Turning:
    """Series at 1 fps: `side` in view (n), and what each side adds to the criterion's own number (side x n x
    criterion)."""

    side: NDArray[np.int64]
    adds: Floats


def draw_turning(plan: VideoPlan, *, seconds: float, rng: np.random.Generator) -> Turning:
    """When one video's gallbladder is turned over, about every `seconds`, and how its two sides differ."""
    n = plan.frames
    low, high = max(round(SHORTEST * seconds), 2), max(round(LONGEST_SHARE * seconds), 2)
    shown = rng.integers(low, high + 1, size=n)
    turns = np.cumsum(shown)
    side = (np.searchsorted(turns, np.arange(n) + rng.integers(0, low), side="right") + rng.integers(0, 2)) % 2
    together = np.linalg.cholesky(np.asarray(CORRELATION)).T

    def drift(seconds: float) -> Floats:
        return spells(rng.standard_normal((n, len(CRITERIA))) @ together, seconds=seconds)

    level = rng.standard_normal(len(CRITERIA)) @ together
    ahead = AHEAD_LEVEL_SD * level + AHEAD_SPELL_SD * drift(AHEAD_SECONDS)
    held = HELD_SD * np.stack([drift(HELD_SECONDS) for _ in (FRONT, BACK)])
    return Turning(side=np.asarray(side, np.int64), adds=held + np.stack([np.maximum(ahead, 0), np.maximum(-ahead, 0)]))


def last_seen(values: Floats, *, at: NDArray[np.bool_]) -> Floats:
    """Each row's value when `at` last held; before it first held, the row's own."""
    seen = np.maximum.accumulate(np.where(at, np.arange(len(at)), -1))
    return np.asarray(values[np.where(seen < 0, np.arange(len(at)), seen)])


def turned(state: State, *, turning: Turning) -> State:
    """The state with two sides: `q` is what is judged (the worse side, each as last seen), `exposure` what is shown."""
    judged = [last_seen(state.q + adds, at=turning.side == side) for side, adds in enumerate(turning.adds)]
    shown = np.asarray(np.where((turning.side == FRONT)[:, None], turning.adds[0], turning.adds[1]))
    exposure = exposed(latent_of(state.exposure) + shown[:, list(CRITERION_OF)])
    return State(q=np.minimum(*judged), exposure=exposure, view=state.view, side=turning.side)
