"""The meter of each part of an experiment's preparation, under the names that preparation tells."""

from __future__ import annotations

from collections.abc import Mapping

from calot.experiment import Experiment
from calot.receipts.meters.frames import Meter, meter
from calot.receipts.meters.labels import mixing_meter, smoothing_meter


def meters(experiment: Experiment) -> Mapping[str, Meter]:
    """By part: `augment.0` and so on, `mixing`, `label_smoothing`."""
    found = {f"augment.{number}": meter(component) for number, component in enumerate(experiment.augment)}
    if experiment.mixing is not None:
        found["mixing"] = mixing_meter(experiment.mixing)
    if experiment.label_smoothing > 0:
        found["label_smoothing"] = smoothing_meter(experiment.label_smoothing)
    return found
