"""Check 8: what was seen in the run itself lies in the bands that its settings declare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calot.data.sampling import Uniform
from calot.experiment import Experiment
from calot.models.adaptation import LoRA
from calot.provenance.evidence import ENTROPY, ObservedEvidence, ObservedReading
from calot.provenance.receipt import ReceiptCheck
from calot.receipts import dropouts
from calot.receipts.meters.band import DoseBand, Tally, merged, never, share
from calot.receipts.meters.preparation import meters
from calot.receipts.probe import FLOOR, STILL
from calot.receipts.watching import CACHED

_VALUES = 4.0  # root of the least number of values that one call of dropout sees
#: Least change of scores, relative to them, that a part makes; less is rounding.
ROUNDING = 1e-5
#: Most that cached tokens may change scores, relative to them; of int8 ones.
CHANGED_BY_CACHE = (0.02, 0.1)


def observed_check(
    experiment: Experiment,
    observed: Sequence[Mapping[str, Any]],
    *,
    labels: NDArray[np.float32],
    steps: Sequence[int],
    chosen: ObservedReading,
    beside: Mapping[str, DoseBand] = MappingProxyType({}),
) -> ReceiptCheck:
    """Hold every reading of every epoch against its band; `labels` (clips, criteria) are the training table's, `steps`
    the optimiser steps per epoch of each stage, `chosen` what is known of the epoch that was kept, `beside` bands for
    what an observer of its own has read."""
    readings = [chosen]
    for number in range(1, len(experiment.stages) + 1):
        epochs = [row["readings"] for row in observed if row["stage"] == number]
        if epochs:
            bands = declared_bands(experiment, stage=number - 1, labels=labels)
            readings += _held(number, epochs, bands={**bands, **beside}, steps=steps[number - 1])
    wrong = [r for r in readings if not r.met]
    why = "; ".join(map(str, wrong[:4])) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
    if not wrong:
        epochs_seen = len(observed)
        why = f"{len(readings)} readings over {epochs_seen} epoch{'s' if epochs_seen != 1 else ''} as declared"
    return ReceiptCheck(
        name="observed",
        status="failed" if wrong else "passed",
        why=why,
        evidence=ObservedEvidence(floor=FLOOR, readings=tuple(readings)),
    )


def _held(
    stage: int, epochs: Sequence[dict[str, Tally]], *, bands: Mapping[str, DoseBand], steps: int
) -> Iterator[ObservedReading]:
    """Every declared reading, whether it was seen or not, then those that moved weights."""
    whole = merged(epochs)
    for name, band in bands.items():
        tally = whole.get(name)
        if tally is None:
            if band.needed:
                yield ObservedReading(stage=stage, name=name, count=0, value=0.0, low=0.0, high=0.0, met=False)
            continue
        low, high = band.around(tally[0])
        yield ObservedReading(
            stage=stage,
            name=name,
            count=int(tally[0]),
            value=tally[1] / tally[0],
            low=max(low, -1e12),
            high=min(high, 1e12),
            met=band.met(tally),
            by_epoch=_by_epoch(name, epochs),
        )
    for name, tally in whole.items():
        if name.startswith("update of "):
            path = tally[1] / tally[0] * steps * len(epochs)
            yield ObservedReading(
                stage=stage,
                name=f"{name.removesuffix(')')}, over the stage)",
                count=int(tally[0]),
                value=path,
                low=STILL,
                high=1e12,
                met=path >= STILL,
                by_epoch=_by_epoch(name, epochs),
            )


def _by_epoch(name: str, epochs: Sequence[dict[str, Tally]]) -> tuple[float | None, ...]:
    return tuple(e[name][1] / e[name][0] if name in e else None for e in epochs)


def declared_bands(experiment: Experiment, *, stage: int, labels: NDArray[np.float32]) -> dict[str, DoseBand]:
    """What the settings declare for one stage."""
    settings = experiment.stages[stage]
    one = DoseBand(1.0, slack=1e-6, each=True)
    bands = {
        "input: a clip unlike its stored frames": never(),
        "input: labels unlike the table's": never(),
        "input: distinct frames over those declared": DoseBand(0.75, slack=0.26),
        "model: clips unlike what was prepared": never(),
        "model: labels unlike what was prepared": never(),
        "model: clips of another place": never(),
        "rate applied over the declared": one,
        "weight decay over the declared": one,
        "scoring: in training mode": never(),
        "scoring: a clip that is none of validation's": never(),
        "scoring: dropouts that acted": never(),
        CACHED: DoseBand.between(0.0, CHANGED_BY_CACHE[experiment.compute.features == "int8"]).optional(),
        ENTROPY: DoseBand.between(0.0, 1.0 + 1e-6).optional(),
    }
    if labels.size:
        rates = experiment.sampler.expected(labels) @ (labels >= 0.5)
        once = isinstance(experiment.sampler, Uniform)  # every clip once per epoch: nothing is left to chance
        for k, rate in enumerate(np.asarray(rates).tolist()):
            bands[f"drawn: positive rate of C{k + 1}"] = DoseBand(rate, slack=1e-6) if once else share(rate)
    for part, meter in meters(experiment).items():
        bands |= {f"{part}: {name}": band for name, band in meter.bands.items()}
    for name, rate in dropouts.declared(experiment, settings.adaptation).items():
        bands[name] = DoseBand(rate, sd=sqrt(rate * (1 - rate)) / _VALUES, slack=0.02 + 0.1 * rate)
    for term in experiment.loss.every_term():
        if len(list(experiment.loss.every_term())) > 1 and term.weight:
            bands[f"gradient share of {term.name}"] = DoseBand.between(FLOOR, 1.0).optional()
    if isinstance(settings.adaptation, LoRA):
        bands["scoring: change of logits without adapter"] = DoseBand.between(ROUNDING, 2.0)
    if experiment.masking is not None:
        bands["scoring: no mask was made"] = never()
        bands["training: share of tokens masked"] = DoseBand.between(1e-6, 1.0)
    if experiment.objective.reads_labels:
        return bands
    idle = tuple(f"{part}: " for part in ("pooling", *(head.name for head in experiment.every_head)))
    own = ("model: ", "scoring: ", "gradient share of ", *idle)  # such an objective calls the model as it sees fit
    return {name: band.optional() if name.startswith(own) else band for name, band in bands.items()}
