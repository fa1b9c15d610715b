"""The standard error of a paired difference when videos, and perhaps seeds, are a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calot.statistics.intervals import satterthwaite

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PairedError:
    """Standard error with its degrees of freedom, and its two sources apart."""

    total: float
    degrees: float
    video: float
    seed: float | None


def paired_error(parts: tuple[Array, Array], *, by_video: Array, left_out: Array, both: Array | None) -> PairedError:
    """V = V_video + V_seed - V_interaction (Cameron, Gelbach and Miller 2011), at least the larger of the first two.

    V_video resamples videos, V_seed is s^2 / S a side; a part that varies with seed and video at once is in both.
    Resampling both counts it a third time, which tells how large it is. Degrees of freedom: Satterthwaite's from the
    jackknife for videos, S - 1 a side for seeds, put together by Welch.
    """
    video = float(np.nanvar(by_video, ddof=1))
    degrees = satterthwaite((left_out - left_out.mean()) ** 2)
    if both is None:
        return PairedError(total=float(np.sqrt(video)), degrees=degrees, video=float(np.sqrt(video)), seed=None)
    each = [float(part.var(ddof=1)) / len(part) for part in parts]
    seeds = sum(each)
    interaction = max(0.0, float(np.nanvar(both, ddof=1)) - video - seeds)
    total = max(video, seeds, video + seeds - interaction)
    joined = _welch([video, *each], [degrees, *(len(part) - 1.0 for part in parts)])
    return PairedError(
        total=float(np.sqrt(total)), degrees=joined, video=float(np.sqrt(video)), seed=float(np.sqrt(seeds))
    )


def _welch(variances: Sequence[float], degrees: Sequence[float]) -> float:
    """Welch and Satterthwaite: (sum v)^2 / sum(v^2 / df)."""
    below = sum(v**2 / df for v, df in zip(variances, degrees, strict=True))
    return sum(variances) ** 2 / below if below > 0 else degrees[0]
