"""Check 9: with its own part switched off, the trained model scores validation otherwise; by how much is shown."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray

from calot.models.adaptation import Frozen
from calot.provenance.evidence import AblationEvidence, AblationReading
from calot.provenance.receipt import ReceiptCheck
from calot.receipts.observed import ROUNDING
from calot.receipts.switches import switches
from calot.receipts.watching import relative
from calot.run.build import build_classifier
from calot.run.read_back import places, sample_logits
from calot.run.trainer import Trainer
from calot.statistics.metrics import mean_ap
from calot.types import Batch, Outputs

Logits = NDArray[np.float32]


def ablation_check(trainer: Trainer) -> ReceiptCheck:
    """Score a sample of validation once more for each part that can be switched off, with the best epoch's weights."""
    experiment = trainer.request.experiment
    if not experiment.objective.reads_labels:
        why = "this objective reads no labels: the criteria have no scores"
        return ReceiptCheck(name="ablation", status="not applicable", why=why)
    parts = _parts(trainer)
    if not parts:
        twin = f"{experiment.baseline} at equal seed" if experiment.baseline else "another run at equal seed"
        why = f"nothing of the trained model can be switched off; its twin is {twin}, which the ledger compares"
        return ReceiptCheck(name="ablation", status="not applicable", why=why)
    masked: list[bool] = []

    def note(outputs: Outputs, batch: Batch) -> None:
        masked.append(outputs.kept is not None and not bool(outputs.kept.all()))

    whole = trainer.sample = sample_logits(trainer, note)
    found = []
    for name, off in parts.items():
        with off:
            found.append(_reading(name, whole, sample_logits(trainer), trainer=trainer))
    idle = [r.part for r in found if r.logits <= ROUNDING and (r.part != "masking" or any(masked))]
    why = "; ".join(map(_said, found))
    if (scored := len(whole)) < (clips := len(trainer.val_set)):
        why = f"on {scored} of {clips} val clips {why}"
    if experiment.masking is not None and not any(masked):
        why += "; not binding here: the decoder finds no anatomy in any of these clips, so no token of theirs is masked"
    if idle:
        why = f"without {', '.join(idle)} the trained model gives the same scores ({why})"
    evidence = AblationEvidence(floor=ROUNDING, parts=tuple(found))
    return ReceiptCheck(name="ablation", status="failed" if idle else "passed", why=why, evidence=evidence)


def _parts(trainer: Trainer) -> dict[str, AbstractContextManager[None]]:
    experiment = trainer.request.experiment
    found = switches(experiment, trainer.model)
    tuned = any(not isinstance(stage.adaptation, Frozen) for stage in experiment.stages)
    if tuned and "adapter" not in found:
        found["what the backbone learnt"] = _untrained(trainer)
    return found


@contextlib.contextmanager
def _untrained(trainer: Trainer) -> Iterator[None]:
    """The backbone as it began."""
    torch.manual_seed(trainer.request.seed)
    start = build_classifier(trainer.request.experiment).backbone.state_dict()
    backbone = trainer.model.backbone
    learnt = {name: tensor.detach().clone() for name, tensor in backbone.state_dict().items()}
    backbone.load_state_dict(start)
    try:
        yield
    finally:
        backbone.load_state_dict(learnt)


def _reading(part: str, whole: Logits, without: Logits, *, trainer: Trainer) -> AblationReading:
    ranks = [np.argsort(np.argsort(x, axis=0, kind="stable"), axis=0) for x in (whole, without)]
    labels = trainer.val_set.table.majority[places(trainer)]
    return AblationReading(
        part=part,
        logits=relative(torch.from_numpy(whole), torch.from_numpy(without)),
        ranks=float(np.abs(ranks[0] - ranks[1]).mean() / max(1, len(whole) - 1)),
        with_it=mean_ap(labels, whole).over_defined,
        without_it=mean_ap(labels, without).over_defined,
    )


def _said(reading: AblationReading) -> str:
    said = f"without {reading.part} logits differ by {100 * reading.logits:.2g} %, ranks by {100 * reading.ranks:.2g} %"
    if reading.with_it is None or reading.without_it is None:
        return said
    return f"{said}, mAP {100 * reading.without_it:.1f} in place of {100 * reading.with_it:.1f}"
