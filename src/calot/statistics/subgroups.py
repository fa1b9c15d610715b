"""AP in parts of a split and in the rest, with the difference: who is served worse than the mean suggests.

Parts are of frames (rater agreement, time in the operation, brightness, sharpness) or of whole videos (length).
Interval and difference leave the same video out of both sides. Chance differs between parts, and a higher prevalence
alone raises AP: it stands beside each. Nothing is corrected for the number of parts looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.criteria import CRITERIA
from calot.statistics.appearance import Appearance
from calot.statistics.intervals import DEFAULT_METHOD, Interval, interval
from calot.statistics.jackknife import interval_fields, plain_interval
from calot.statistics.metrics import average_precision
from calot.statistics.predictions import Predictions
from calot.statistics.resampling import WeightedAP, jackknife_weights

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
#: Below so many videos with a positive label, a part's AP is called uncertain beside its interval.
FEW = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Some of a table's rows; (n,) or, where it differs by criterion, (n, 3)."""

    kind: str
    name: str
    rows: Flags

    def of(self, column: int) -> Flags:
        return self.rows if self.rows.ndim == 1 else self.rows[:, column]


@dataclass(frozen=True, kw_only=True)
class PartScore:
    """One criterion in one part; `difference` is the part's AP minus that of all other frames."""

    ap: Interval
    chance: float | None
    difference: Interval
    frames: int
    positives: int
    positive_videos: int

    @property
    def few(self) -> bool:
        """Whether so few videos have a positive label that the interval itself is uncertain."""
        return self.positive_videos < FEW


@dataclass(frozen=True, kw_only=True)
class Subgroup:
    """A part with the scores of each criterion."""

    kind: str
    name: str
    criteria: dict[str, PartScore]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        scored = {
            name: asdict(item)
            | {"ap": interval_fields(item.ap), "difference": interval_fields(item.difference), "few": item.few}
            for name, item in self.criteria.items()
        }
        return {"kind": self.kind, "name": self.name, "criteria": scored}


@dataclass(frozen=True, kw_only=True)
class Subgroups:
    """Every part that the table defines; `undefined` says of each kind that it does not, why."""

    found: tuple[Subgroup, ...]
    undefined: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"few_below": FEW, "found": [item.to_dict() for item in self.found], "undefined": self.undefined}


def passed_share(predictions: Predictions) -> Array:
    """How far each frame lies between its video's first scored frame (0) and its last (1); a lone frame is at 0."""
    units = np.unique(predictions.videos, return_inverse=True)[1]
    number = predictions.frames.astype(np.float64)
    first, last = _by_video(np.minimum, units, number), _by_video(np.maximum, units, number)
    length = (last - first)[units]
    return np.divide(number - first[units], length, out=np.zeros_like(number), where=length > 0)


def _by_video(reduce: np.ufunc, units: NDArray[np.intp], values: Array) -> Array:
    found = np.full(int(units.max()) + 1, np.inf if reduce is np.minimum else -np.inf)
    reduce.at(found, units, values)
    return found


def subgroups(predictions: Predictions, *, appearance: Appearance) -> Subgroups:
    """All parts; seeds are averaged. Rows of `appearance` are those of the table's first seed."""
    seeds = predictions.by_seed()
    parts, undefined = _parts(seeds[0], appearance=appearance)
    return Subgroups(found=tuple(_scored(part, seeds=seeds) for part in parts), undefined=undefined)


def _parts(table: Predictions, *, appearance: Appearance) -> tuple[list[Part], dict[str, str]]:
    parts: list[Part] = []
    undefined: dict[str, str] = {}
    if table.soft is None:
        undefined["raters"] = "the table holds no rater means"
    else:
        alike = np.isin(table.soft, (0.0, 1.0))
        parts += _two(
            "raters", ("unanimous", "not unanimous"), alike, undefined=undefined, why="raters agree everywhere"
        )
    third = np.minimum((3 * passed_share(table)).astype(int), 2)
    names = ("first third", "middle third", "last third")
    parts += [Part(kind="time in the operation", name=name, rows=third == k) for k, name in enumerate(names)]
    units = np.unique(table.videos, return_inverse=True)[1]
    number = table.frames.astype(np.float64)
    length = _by_video(np.maximum, units, number) - _by_video(np.minimum, units, number)
    short = (length < np.median(length))[units]
    parts += _two("video length", ("short video", "long video"), short, undefined=undefined, why="videos last alike")
    if appearance.reason is not None:
        return parts, undefined | dict.fromkeys(("brightness", "sharpness"), appearance.reason)
    for kind, both, values in (
        ("brightness", ("dark frame", "bright frame"), appearance.brightness),
        ("sharpness", ("blurred frame", "sharp frame"), appearance.sharpness),
    ):
        parts += _two(kind, both, values < np.median(values), undefined=undefined, why="frames look alike")
    return parts, undefined


def _two(kind: str, names: tuple[str, ...], first: Flags, *, undefined: dict[str, str], why: str) -> list[Part]:
    """A part and its complement; where all rows lie on one side there is neither, for the reason `why`."""
    if first.all() or not first.any():
        undefined[kind] = f"{why}: there is nothing to compare"
        return []
    return [Part(kind=kind, name=names[0], rows=first), Part(kind=kind, name=names[1], rows=~first)]


def _scored(part: Part, *, seeds: Sequence[Predictions]) -> Subgroup:
    scores = {name: _score(part.of(k), column=k, seeds=seeds) for k, name in enumerate(CRITERIA)}
    return Subgroup(kind=part.kind, name=part.name, criteria=scores)


def _score(rows: Flags, *, column: int, seeds: Sequence[Predictions]) -> PartScore:
    labels = seeds[0].labels[:, column] == 1
    units = np.unique(seeds[0].videos, return_inverse=True)[1]
    held = len(np.unique(units[rows & labels]))
    inside, outside = (_left_out(side, column=column, seeds=seeds, units=units) for side in (rows, ~rows))
    value = interval(DEFAULT_METHOD, value=inside[0], left_out=inside[1:], drawn=None, positive_videos=held)
    apart = inside - outside
    missing = "no positive label in it, or none in the rest"
    difference = plain_interval(None if np.isnan(apart[0]) else float(apart[0]), left_out=apart[1:], reason=missing)
    return PartScore(
        ap=value,
        chance=float(labels[rows].mean()) if rows.any() else None,
        difference=difference,
        frames=int(rows.sum()),
        positives=int((rows & labels).sum()),
        positive_videos=held,
    )


def _left_out(rows: Flags, *, column: int, seeds: Sequence[Predictions], units: NDArray[np.intp]) -> Array:
    """AP of some rows, then without each video, (1 + videos,), averaged over seeds; NaN without a positive."""
    count = int(units.max()) + 1
    labels = seeds[0].labels[rows, column]
    if not labels.any():
        return np.full(1 + count, np.nan)
    found = []
    for part in seeds:
        engine = WeightedAP.of(labels, scores=part.logits[rows, column], units=units[rows], count=count)
        whole = average_precision(labels, part.logits[rows, column])
        found.append(np.r_[np.nan if whole is None else whole, engine(jackknife_weights(count))])
    return np.asarray(np.mean(found, axis=0), dtype=np.float64)
