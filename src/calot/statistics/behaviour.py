"""What a table shows beyond its scores: scaled probabilities, decisions at a sensitivity, prediction sets, subgroups,
drift of calibration. Everything chosen was frozen on val; on val itself each video is left out of what it is held to.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from calot.statistics.appearance import NO_DATA, Appearance
from calot.statistics.drift import Drift, drift, drift_fields
from calot.statistics.frame_sums import decision_intervals
from calot.statistics.frozen import FrozenOnVal
from calot.statistics.intervals import Interval
from calot.statistics.jackknife import interval_fields
from calot.statistics.prediction_sets import SetRates, set_fields, set_rates
from calot.statistics.predictions import Predictions
from calot.statistics.subgroups import Subgroups, passed_share, subgroups
from calot.statistics.summary import Summary
from calot.statistics.temperature import NOT_FROZEN, Scaling, scaling, scaling_fields

NO_THRESHOLDS = "no thresholds frozen on val (val.parquet beside the table, or --frozen)"


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Computed when first asked for; `frozen` is None where nothing was chosen on val."""

    summary: Summary
    frozen: FrozenOnVal | None
    appearance: Appearance

    @property
    def predictions(self) -> Predictions:
        return self.summary.predictions

    @property
    def own(self) -> bool:
        """Whether what is frozen was chosen on this very table."""
        return self.frozen is not None and self.frozen.is_own(self.predictions)

    @cached_property
    def scaling(self) -> dict[str, Scaling]:
        """Each criterion's probabilities before and after temperature scaling."""
        found = {}
        for name, item in self.summary.criteria.items():
            fitted = None if self.frozen is None else self.frozen.temperatures
            value = None if fitted is None else fitted.values[name]
            reason = NOT_FROZEN if fitted is None else fitted.reasons.get(name)
            f = item.frames
            found[name] = scaling(f.labels, logits=f.logits, units=f.units, frozen=value, reason=reason, own=self.own)
        return found

    @cached_property
    def sensitive(self) -> dict[str, dict[str, Interval]]:
        """Each criterion's rates at the threshold frozen for a target sensitivity; empty without one."""
        found = {}
        for name, item in self.summary.criteria.items():
            limit = None if self.frozen is None else self.frozen.sensitive.values[name]
            f = item.frames
            found[name] = (
                {} if limit is None else decision_intervals(f.labels, scores=f.logits, threshold=limit, units=f.units)
            )
        return found

    @cached_property
    def sets(self) -> dict[str, SetRates]:
        """Each criterion's prediction sets; none without limits."""
        if self.frozen is None:
            return {}
        limits = self.frozen.limits
        return {
            name: set_rates(
                item.frames.labels,
                logits=item.frames.logits,
                units=item.frames.units,
                limits=limits,
                limit=limits.values[name],
                own=self.own,
            )
            for name, item in self.summary.criteria.items()
        }

    @cached_property
    def subgroups(self) -> Subgroups:
        """AP in parts of the split."""
        return subgroups(self.predictions, appearance=self.appearance)

    @cached_property
    def drift(self) -> dict[str, Drift]:
        """Calibration in the large by fifth of the operation, over all seeds' frames."""
        seeds = self.predictions.by_seed()
        passed = np.concatenate([passed_share(part) for part in seeds])
        return {
            name: drift(item.frames.labels, logits=item.frames.logits, units=item.frames.units, passed=passed)
            for name, item in self.summary.criteria.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; every null stands beside its reason."""
        frozen = self.frozen
        return {
            "temperature_scaling": scaling_fields(
                self.scaling, frozen=None if frozen is None else frozen.temperatures, own=self.own
            ),
            "at_sensitivity": {
                "target": None if frozen is None else frozen.sensitivity,
                "thresholds": None if frozen is None else asdict(frozen.sensitive),
                "reason": NO_THRESHOLDS if frozen is None else None,
                "decisions": {
                    name: {rate: interval_fields(item) for rate, item in rates.items()}
                    for name, rates in self.sensitive.items()
                },
            },
            "prediction_sets": set_fields(self.sets, limits=None if frozen is None else frozen.limits, own=self.own),
            "subgroups": self.subgroups.to_dict(),
            "calibration_drift": drift_fields(self.drift),
        }


def behaviour_of(summary: Summary, *, frozen: FrozenOnVal | None, appearance: Appearance | None = None) -> Behaviour:
    """Of a scored table. Raises CalotError where `frozen` was chosen for another run's predictions."""
    if frozen is not None:
        frozen.require_same_model(summary.predictions, where="frozen values")
    return Behaviour(summary=summary, frozen=frozen, appearance=appearance or Appearance(reason=NO_DATA))
