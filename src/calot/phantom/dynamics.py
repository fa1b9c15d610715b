"""The hidden operation: how far each criterion's anatomy is laid open, second by second.

One latent number per criterion, `q`: the criterion is truly met where q > 0. It adds an operation's own level, a ramp
of dissection (some operations start too late to finish it), minutes-long spells, and seconds-long spells of view
(retraction slackens, tissue falls back, an instrument stands in front). The four drawn structures follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtr

from calot.criteria import CRITERIA
from calot.phantom.plan import VideoPlan

Floats = NDArray[np.float64]

STRUCTURES = ("duct", "artery", "triangle", "plate")


@dataclass(frozen=True, kw_only=True)
class CriterionDynamics:
    """One criterion's process. Unit: the standard deviation of the seconds-long spells (fixed to 1).

    Fitted by random search with common random numbers to the real train keyframe tables (120 videos): prevalence by
    rater, vote counts, kappas, autocorrelation at 1 to 20 keyframes of majority and raters, prevalence by fifth of
    the video, standard deviation of the videos' means.
    """

    level_sd: float  # between operations
    ramp: float  # what dissection adds when complete
    spell_sd: float  # minutes-long spells
    spell_seconds: float
    view_seconds: float  # decay time of the seconds-long spells
    ramp_share: float = 0.3  # of the video, that a dissection lasts
    ramp_first: float = -0.1  # a dissection starts uniformly from here ...
    ramp_last: float = 0.8  # ... to here, in shares of the video


DYNAMICS: dict[str, CriterionDynamics] = dict(
    zip(
        CRITERIA,
        (
            CriterionDynamics(level_sd=1.42, ramp=2.35, spell_sd=1.75, spell_seconds=93.0, view_seconds=9.0),
            CriterionDynamics(level_sd=0.65, ramp=3.03, spell_sd=1.01, spell_seconds=139.0, view_seconds=25.0),
            CriterionDynamics(level_sd=1.65, ramp=2.42, spell_sd=1.45, spell_seconds=180.0, view_seconds=17.0),
        ),
        strict=True,
    )
)

#: Correlation of the criteria's terms (levels, onsets, both kinds of spells), fitted to the criteria's co-occurrence.
CORRELATION = ((1.0, 0.84, 0.60), (0.84, 1.0, 0.90), (0.60, 0.90, 1.0))

#: How far the better seen of duct and artery is ahead of the other: per video, and in spells of this many seconds.
LEAD_LEVEL_SD, LEAD_SPELL_SD, LEAD_SECONDS = 0.9, 0.9, 60.0

#: Slope from q to the share of a structure's region laid open: share = 1 / (1 + exp(-slope * q)); 0.5 at the threshold.
EXPOSURE_SLOPE = 1.3


@dataclass(frozen=True)
class State:
    """An operation's hidden state at 1 fps: `q` n x 3 by criterion, `exposure` n x 4 by structure, `view` n, and
    the `side` of the gallbladder in view where it is turned over (n; 0 front, 1 back)."""

    q: Floats
    exposure: Floats
    view: Floats
    side: NDArray[np.int64] | None = None

    @property
    def met(self) -> NDArray[np.bool_]:
        """The true criteria, n x 3: what raters without bias or noise would say."""
        return self.q > 0


def spells(white: Floats, *, seconds: float) -> Floats:
    """A stationary unit-variance process with that decay time, from white noise along axis 0 at 1 fps."""
    keep = float(np.exp(-1.0 / seconds))
    driven = white * np.sqrt(1.0 - keep**2)
    driven[0] = white[0]
    return np.asarray(lfilter([1.0], [1.0, -keep], driven, axis=0))


def exposed(latent: Floats) -> Floats:
    """The share of a structure's region that lies open, for its latent number."""
    return np.asarray(1.0 / (1.0 + np.exp(-EXPOSURE_SLOPE * latent)))


def latent_of(exposure: Floats) -> Floats:
    """The latent number of an open share: the inverse of `exposed`, for shares a rounding away from 0 and 1."""
    share = np.clip(exposure, 1e-12, 1.0 - 1e-12)
    return np.asarray(np.log(share / (1.0 - share)) / EXPOSURE_SLOPE)


def _smooth(x: Floats) -> Floats:
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * (3.0 - 2.0 * x))


def simulate_state(plan: VideoPlan, *, rng: np.random.Generator) -> State:
    """The hidden state of one video; uses up its draws in a fixed order, whatever the plan's shifts."""
    n = plan.frames
    together = np.linalg.cholesky(np.asarray(CORRELATION)).T
    spell_noise, view_noise = (rng.standard_normal((n, len(CRITERIA))) @ together for _ in range(2))
    level, onset = np.asarray(plan.level) @ together, np.asarray(plan.onset) @ together
    position = (np.arange(n) + 0.5) / n
    q = np.empty((n, len(CRITERIA)))
    for k, name in enumerate(CRITERIA):
        d = DYNAMICS[name]
        start = d.ramp_first + (d.ramp_last - d.ramp_first) * float(ndtr(onset[k]))
        spell = spells(spell_noise[:, k], seconds=d.spell_seconds)
        view = spells(view_noise[:, k], seconds=d.view_seconds)
        done = _smooth((position - start) / d.ramp_share)
        q[:, k] = d.level_sd * level[k] + d.ramp * done + d.spell_sd * spell + view
    q += np.asarray(plan.shift)
    lead = LEAD_LEVEL_SD * rng.standard_normal() + LEAD_SPELL_SD * spells(rng.standard_normal(n), seconds=LEAD_SECONDS)
    latent = np.stack([q[:, 0] + np.maximum(lead, 0), q[:, 0] + np.maximum(-lead, 0), q[:, 1], q[:, 2]], axis=1)
    seen = spells(view_noise[:, 1], seconds=DYNAMICS[CRITERIA[1]].view_seconds)
    return State(q=q, exposure=exposed(latent), view=seen)
