"""Receipt checks measured once for all seeds of an experiment: taken over where nothing that they depend on differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from calot.errors import CalotError
from calot.experiment import Experiment
from calot.provenance.measured import Kind, Measured, keep_measured, kept_measured
from calot.provenance.receipt import Receipt, ReceiptCheck, check_of, record_of
from calot.receipts.probe import ProbeData
from calot.run.environment import code_hash, processor_name
from calot.run.request import Request

#: Gives the checks, or raises CalotError for bad input.
Make = Callable[[], Sequence[ReceiptCheck]]


def conditions(
    experiment: Experiment, baseline: Experiment | None, *, request: Request, data: ProbeData
) -> dict[str, str]:
    """All that checks depend on but for the seed: both treatments, the clips and masks they see, code and machine."""
    opened = data.of_experiment(experiment)
    seen = []
    for split in ("train", "val"):
        table = opened.clips(split, training=split == "train")
        masks = opened.masks(table)
        seen += [opened.store(split).digest, "" if masks is None else str(masks.summary()["digest"])]
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "experiment": experiment.fingerprint(),
        "baseline": "" if baseline is None else baseline.fingerprint(),
        "scale": request.scale,
        "manifest": data.manifest.hash,
        "pixels": hashlib.sha256(json.dumps(seen).encode()).hexdigest(),
        "code": code_hash(),
        "machine": f"{processor_name()}, {cuda}, torch {torch.__version__}, {experiment.compute!r}",
    }


def shared_checks(
    receipt: Receipt, kind: Kind, make: Make, *, under: dict[str, str], request: Request, results: Path
) -> Receipt:
    """The receipt with checks that another run measured under these conditions, or measured here and kept for others.

    Failed checks are never kept: each run finds out for itself.
    """
    found = kept_measured(results, kind, under=under)
    if found is not None:
        try:
            checks = [check_of(record) for record in found[1]]
        except (CalotError, KeyError, TypeError, ValueError):  # of another version of calot: measured again
            checks = []
        if checks and not any(check.status in ("failed", "pending") for check in checks):
            return receipt.with_checks(checks).with_measured(found[0])
    checks = list(make())
    records = [record_of(check) for check in checks]
    measured = Measured.of(kind, records, run=request.folder, seed=request.seed, under=under)
    if not any(check.status in ("failed", "pending") for check in checks):
        keep_measured(measured, records, results=results)
    return receipt.with_checks(checks).with_measured(measured)
