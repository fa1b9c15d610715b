"""What is chosen on val and held fixed from then on: thresholds, temperatures, limits of prediction sets. One file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calot.criteria import CRITERIA
from calot.errors import CalotError
from calot.reading import read_json
from calot.statistics.calibration import Thresholds, choose_thresholds
from calot.statistics.prediction_sets import LEVEL, SetLimits, freeze_limits
from calot.statistics.predictions import Predictions
from calot.statistics.schema import UNKNOWN
from calot.statistics.temperature import Temperatures, fit_temperatures
from calot.writing import write_json

SENSITIVITY = 0.9
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class FrozenOnVal:
    """Chosen on the predictions whose digest is `digest`, of the run whose fingerprint is `fingerprint`."""

    thresholds: Thresholds
    sensitive: Thresholds
    temperatures: Temperatures
    limits: SetLimits
    sensitivity: float
    fingerprint: str
    digest: str

    def is_own(self, predictions: Predictions) -> bool:
        """Whether these were chosen on this very table, so that figures on it must leave each video out."""
        return self.digest == predictions.digest

    def require_same_model(self, predictions: Predictions, *, where: str) -> None:
        """Raises CalotError where the table is another run's: thresholds of one model say nothing about another."""
        known = UNKNOWN not in (self.fingerprint, predictions.fingerprint)
        if known and self.fingerprint != predictions.fingerprint:
            raise CalotError(
                f"{where}: frozen on predictions of run {self.fingerprint[:12]}, and {predictions.source} is of "
                f"{predictions.fingerprint[:12]}; freeze it on that run's val: calot metrics VAL --freeze FILE"
            )

    def write(self, path: Path) -> Path:
        """Store as JSON, at once or not at all."""
        return write_json(Path(path), {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> FrozenOnVal:
        """Read what `write` stored; raises CalotError for anything else, and for what was chosen on test."""
        again = "write it again: calot metrics VAL --freeze FILE"
        try:
            fields = read_json(Path(path))
            if fields.pop("format") != FORMAT:
                raise ValueError("another format")
            made = cls(
                thresholds=Thresholds(**_checked(fields.pop("thresholds"))),
                sensitive=Thresholds(**_checked(fields.pop("sensitive"))),
                temperatures=Temperatures(**_checked(fields.pop("temperatures"))),
                limits=SetLimits(**_checked(fields.pop("limits"))),
                **fields,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CalotError(f"{path}: not a file of values frozen on val ({error!r}); {again}") from error
        if "test" in (made.thresholds.split, made.sensitive.split, made.temperatures.split, made.limits.split):
            raise CalotError(f"{path}: chosen on test, where nothing is chosen; {again}")
        return made


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    """With one finite number, or null, for each criterion."""
    values = {name: None if fields["values"][name] is None else float(fields["values"][name]) for name in CRITERIA}
    if any(value is not None and not abs(value) < float("inf") for value in values.values()):
        raise ValueError("a value is not finite")
    return fields | {"values": values}


def freeze(predictions: Predictions, *, sensitivity: float = SENSITIVITY, level: float = LEVEL) -> FrozenOnVal:
    """Choose everything on one table of val. Raises CalotError for the test split, and for impossible targets."""
    return FrozenOnVal(
        thresholds=choose_thresholds(predictions),
        sensitive=choose_thresholds(predictions, sensitivity=sensitivity),
        temperatures=fit_temperatures(predictions),
        limits=freeze_limits(predictions, level=level),
        sensitivity=sensitivity,
        fingerprint=predictions.fingerprint,
        digest=predictions.digest,
    )
