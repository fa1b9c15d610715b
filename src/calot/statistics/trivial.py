"""Trivial baselines beside a result: read from a run's folder, scored on its clips, and compared with it by video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from calot.criteria import CRITERIA, label
from calot.errors import CalotError
from calot.provenance.run_files import TrivialFile, read_file
from calot.statistics.compare import MIN_POSITIVE_VIDEOS, MIN_VIDEOS
from calot.statistics.coverage import measured_coverage
from calot.statistics.intervals import Interval, VideoIntervals, video_intervals
from calot.statistics.outcome import PairedDifference
from calot.statistics.paired_error import ScoredSide, paired_error
from calot.statistics.predictions import Predictions, load_predictions, same_rows
from calot.statistics.resampling import Resampler
from calot.statistics.rounding import between, rounded
from calot.statistics.schema import UNKNOWN

FOLDER = "baselines"
SPLITS = ("val", "test")
COMMAND = "calot data baselines ROOT --run RUN"
NOT_COMPUTED = f"not computed for this run; use: {COMMAND}"
NO_RUN = "not known: this table does not belong to a run's folder"
_AGAIN = f"compute them again: {COMMAND}"

Standing = Literal["above", "below", "level", "unknown"]
_STANDS: dict[Standing, str] = {
    "above": "is above the best of them",
    "below": "is BELOW the best of them",
    "level": "is NOT shown to be above the best of them",
    "unknown": "cannot be told from the best of them",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Trivial:
    """One baseline's predictions on a split; `undefined` says of a criterion why its scores mean nothing."""

    name: str
    title: str
    settings: str
    undefined: dict[str, str]
    predictions: Predictions

    @cached_property
    def intervals(self) -> VideoIntervals:
        """AP and mAP with their intervals over videos; without a value where the baseline could not be fitted."""
        found = video_intervals(self.predictions)
        if not self.undefined:
            return found
        none = {name: _no_value(why) for name, why in self.undefined.items()}
        total = _no_value("; ".join(f"{label(name)}: {why}" for name, why in self.undefined.items()))
        coverage = {**found.coverage, **dict.fromkeys((*none, "map"))}
        return replace(found, ap={**found.ap, **none}, map=total, coverage=coverage)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrivialTables:
    """The baselines of one split of a run, fitted on `clips` clips of `videos` videos of train; `undefined` says why
    there are none at all."""

    split: str
    protocol: str
    manifest_hash: str
    clips: int
    videos: int
    undefined: str | None
    baselines: tuple[Trivial, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class BesideTrivial:
    """A result beside the baselines on its clips: its difference from each in mAP, paired by video; `reason` says why
    there is nothing to compare."""

    tables: TrivialTables | None = None
    value: float | None = None
    differences: dict[str, PairedDifference]
    reason: str | None = None

    @property
    def baselines(self) -> Sequence[Trivial]:
        return () if self.tables is None or self.reason else self.tables.baselines

    @cached_property
    def best(self) -> Trivial | None:
        """The one with the highest mAP."""
        known = [one for one in self.baselines if one.intervals.map.value is not None]
        return max(known, key=lambda one: one.intervals.map.value or 0.0, default=None)

    @property
    def standing(self) -> Standing:
        """Where the result stands against the best one, by the paired interval."""
        if self.best is None:
            return "unknown"
        found = self.differences[self.best.name]
        if found.low is None or found.high is None:
            return "unknown"
        return "above" if found.low > 0 else "below" if found.high < 0 else "level"

    def listed(self) -> str:
        """`8 x 8 thumbnail 46.1 (30.2 to 61.0), ...`"""
        return ", ".join(f"{one.title} {_in_words(one.intervals.map)}" for one in self.baselines)

    def verdict(self, name: str = "This run") -> str:
        """One sentence: where the result stands against the best baseline."""
        if self.best is None:
            return f"{name} cannot be held to them: {self.reason or 'none of them is defined'}."
        found = self.differences[self.best.name]
        points = "undefined" if found.value is None else f"{rounded(100 * found.value, digits=1, sign=True)} points"
        paired = f"no interval: {found.reason}"
        if found.low is not None and found.high is not None:
            paired = f"95 % interval, paired by video, {between(found.low, found.high, sign=True)}"
        own = "" if self.value is None else f", at {100 * self.value:.1f},"
        return f"{name}{own} {_STANDS[self.standing]}, {self.best.title}: {points} ({paired})."

    def held(self) -> str:
        """How often such paired intervals held the truth in simulation; empty where that was not measured."""
        found = None if self.best is None else self.differences[self.best.name].coverage
        return "" if found is None else f"Such paired intervals held the truth in {found}."

    def sentence(self) -> str:
        """The baselines and the verdict."""
        if not self.baselines:
            why = self.reason or "none"
            return f"{why[0].upper()}{why[1:]}."
        return f"On the same clips: {self.listed()}. {self.verdict()}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "reason": self.reason,
            "fitted_on": None if self.tables is None else {"clips": self.tables.clips, "videos": self.tables.videos},
            "best": None if self.best is None else self.best.name,
            "standing": self.standing,
            "verdict": self.verdict() if self.baselines else None,
            "baselines": [
                {
                    "name": one.name,
                    "title": one.title,
                    "settings": one.settings,
                    "map": asdict(one.intervals.map),
                    "ap": {name: asdict(item) for name, item in one.intervals.ap.items()},
                    "run_minus_baseline": asdict(self.differences[one.name]),
                }
                for one in self.baselines
            ],
        }


def index_of(run: Path, *, split: str) -> Path:
    """Where a run says which baselines it has of a split."""
    return run / FOLDER / f"{split}.json"


def table_of(run: Path, *, split: str, name: str) -> Path:
    """Where one baseline's predictions lie."""
    return run / FOLDER / split / f"{name}.parquet"


def read_trivial(run: Path, *, split: str) -> TrivialTables | None:
    """A run's baselines of a split; None where there are none. Raises CalotError naming a file that is not right."""
    path = index_of(run, split=split)
    if not path.is_file():
        return None
    found = read_file(path, TrivialFile, remedy=_AGAIN)
    unknown = {name for entry in found["baselines"] for name in entry["undefined"]} - set(CRITERIA)
    if found["format"] != 1 or found["split"] != split or unknown:
        raise CalotError(f"{path}: not the baselines of {split} that this calot reads; {_AGAIN}")
    return TrivialTables(
        split=split,
        protocol=found["protocol"],
        manifest_hash=found["manifest_hash"],
        clips=found["clips"],
        videos=found["videos"],
        undefined=found["undefined"],
        baselines=tuple(
            Trivial(
                name=entry["name"],
                title=entry["title"],
                settings=entry["settings"],
                undefined=entry["undefined"],
                predictions=load_predictions(table_of(run, split=split, name=entry["name"])).with_labels(),
            )
            for entry in found["baselines"]
        ),
    )


def beside_trivial(predictions: Predictions, *, run: Path | None) -> BesideTrivial:
    """A table of labelled predictions beside the baselines in the folder of its run."""
    tables = None if run is None else read_trivial(run, split=predictions.split)
    if tables is None:
        return BesideTrivial(differences={}, reason=NO_RUN if run is None else NOT_COMPUTED)
    return held_to(predictions, tables)


def held_to(predictions: Predictions, tables: TrivialTables) -> BesideTrivial:
    """Predictions beside baselines of the same frames; of others nothing is compared, and the reason is said."""
    reason = f"undefined: {tables.undefined}" if tables.undefined else _apart(predictions, tables)
    if reason:
        return BesideTrivial(tables=tables, differences={}, reason=reason)
    differences = {}
    for one in tables.baselines:
        if one.intervals.map.value is None:
            differences[one.name] = PairedDifference(value=None, reason=one.intervals.map.reason)
        else:
            differences[one.name] = map_difference(predictions, one.predictions)
    value = video_intervals(predictions).map.value
    return BesideTrivial(tables=tables, value=value, differences=differences)


def _apart(predictions: Predictions, tables: TrivialTables) -> str | None:
    for name in ("protocol", "manifest_hash"):
        own, theirs = getattr(predictions, name), getattr(tables, name)
        if UNKNOWN not in (own, theirs) and own != theirs:
            return f"they are of another {name.replace('_', ' ')} ({theirs[:12]}, here {own[:12]}); {_AGAIN}"
    for one in tables.baselines:
        if apart := same_rows(predictions.by_seed()[0], one.predictions):
            return f"{one.title} was scored on other frames ({apart}); {_AGAIN}"
    return None if tables.baselines else "there are none"


def map_difference(a: Predictions, b: Predictions) -> PairedDifference:
    """mAP of `a` minus that of `b` on the same frames: value +- t * se by leaving the same video out of both."""
    engines = [Resampler.of([side]) for side in (a, b)]
    held, count = min(engines[0].positive_videos), len(engines[0].videos)
    if held == 0:
        return PairedDifference(value=None, reason="no positive label of some criterion")
    left, right = (ScoredSide.of(engine).left_out()[:, :, -1] for engine in engines)
    value = float(left[0].mean() - right[0].mean())
    if held < MIN_POSITIVE_VIDEOS or count < MIN_VIDEOS:
        where = f"{count} videos" if count < MIN_VIDEOS else "all positive labels of a criterion lie in one video"
        return PairedDifference(value=value, reason=f"{where}: the variation between videos is unknown")
    error = paired_error(left, right, seeds_vary=False)
    return PairedDifference(
        value=value,
        low=value - error.half,
        high=value + error.half,
        standard_error=error.total,
        video_error=error.video,
        coverage=measured_coverage("difference_map", positive_videos=held),
    )


def _no_value(reason: str) -> Interval:
    return Interval(value=None, low=None, high=None, reason=reason)


def _in_words(interval: Interval) -> str:
    if interval.value is None:
        return f"undefined ({interval.reason})"
    if interval.low is None or interval.high is None:
        return f"{100 * interval.value:.1f} (no interval)"
    return f"{100 * interval.value:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
