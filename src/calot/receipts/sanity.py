"""Check 9: at tiny scale with regularisers off, the model overfits eight clips, and shuffled labels fall to chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from calot.data.clips import ClipTable
from calot.data.dataset import ClipDataset, EpochIndices
from calot.experiment import TINY, Experiment, scaled
from calot.provenance.evidence import ControlsEvidence, Shuffled
from calot.provenance.receipt import Receipt, ReceiptCheck, Status
from calot.receipts.overfitting import overfit, why_not_learnt
from calot.receipts.probe import ProbeData, every_clip, trainer_for, with_frozen_tokens
from calot.receipts.sharing import conditions, shared_checks
from calot.run.request import Request
from calot.train.loop import optimise
from calot.train.stage import Compute, Stage
from calot.wall import spent_on

_SHUFFLED_STEPS, _SHUFFLED_CLIPS = 12, 32

#: Deals of the labels, each with weights of its own, and the p below which they know something: on 20 operations true
#: labels gave at most 0.0007 (AUC .65 to .69 in each deal), dealt ones about 0.4.
_DEALS, _RARE = 6, 0.002


@spent_on("controls")
def with_controls(
    receipt: Receipt, experiment: Experiment, *, request: Request, results: Path, data: ProbeData
) -> Receipt:
    """The receipt with both controls: made once per treatment, code, data and machine, and kept in the results folder
    for every run that they stand for, whatever its seed."""
    bare = unregularised(scaled(experiment, TINY) if request.scale != TINY else experiment)
    asked = replace(request, experiment=bare, scale=TINY)
    return shared_checks(
        receipt,
        "controls",
        lambda: (_controls(replace(asked, seed=0), data=data),),
        under=conditions(bare, None, request=asked, data=data),
        request=request,
        results=results,
    )


def _controls(request: Request, *, data: ProbeData) -> ReceiptCheck:
    evidence = ControlsEvidence(overfit=overfit(request, data=data), shuffled=_shuffled(request, data=data))
    over, shuffled = evidence.overfit, evidence.shuffled
    problems = [said] if (said := why_not_learnt(over)) else []
    auc = f"AUC {shuffled.auc:.2f}, p {shuffled.p:.2g}"
    if shuffled.p < _RARE:
        problems.append(f"labels dealt to other clips still rank val ({auc} over {_DEALS} deals)")
    if not shuffled.acts:
        problems.append("labels dealt to other clips train to the very scores of the true ones")
    why = f"eight clips are learnt (mAP {over.map:.2f}), shuffled labels fall to chance ({auc})"
    status: Status = "failed" if problems else "passed"
    return ReceiptCheck(name="controls", status=status, why="; ".join(problems) or why, evidence=evidence)


def unregularised(experiment: Experiment) -> Experiment:
    """The same without dropout, weight decay, augmentation, mixing, smoothing, drop path and schedule, in one stage."""
    stage, masking, compute = experiment.train, experiment.masking, experiment.compute
    return replace(
        experiment,
        augment=(),
        mixing=None,
        label_smoothing=0.0,
        backbone=experiment.backbone.without_dropout(),
        head=experiment.head.without_dropout(),
        pooling=experiment.pooling.without_dropout(),
        heads=tuple(head.without_dropout() for head in experiment.heads),
        masking=None if masking is None else masking.without_dropout(),
        train=Stage(
            adaptation=stage.adaptation.without_dropout(), lr=2e-3, min_lr=2e-3, warmup=0, weight_decay=0, epochs=10**4
        ),
        then=(),
        compute=Compute(threads=compute.threads, device=compute.device, cache=compute.cache),
    )


def _shuffled(request: Request, *, data: ProbeData) -> Shuffled:
    """Train afresh on several deals of the labels to other clips; val is then ranked no better than by chance.

    Even without knowledge a deal ranks val well or badly, because labels and features both hang together within a
    video; which of the two is a coin's toss, by deal and first weights. So the area under the ROC curve, 1/2 at chance
    and mirrored when scores are, is averaged over deals and held against their spread (one-sided t test). Undealt
    labels, from the same weights and on the same batches, must give other scores than the first deal.
    """
    clips = replace(data, count=_SHUFFLED_CLIPS)
    true, labels = val_logits(request, data=clips, deal=0, labels=lambda dataset: dataset)
    found = [val_logits(request, data=clips, deal=n, labels=partial(dealt, deal=n))[0] for n in range(_DEALS)]
    areas = [_area(logits, labels) for logits in found]
    spread = float(np.std(areas, ddof=1))
    p = float(stats.ttest_1samp(areas, 0.5, alternative="greater").pvalue) if spread else float(np.mean(areas) <= 0.5)
    return Shuffled(
        auc=float(np.mean(areas)),
        p=p,
        auc_of_each_deal=tuple(areas),
        auc_of_true_labels=_area(true, labels),
        acts=not np.array_equal(true, found[0]),
        steps=_SHUFFLED_STEPS,
        val_clips=len(labels),
    )


def dealt(dataset: ClipDataset, *, deal: int) -> ClipDataset:
    """The same clips with each other's labels."""
    order = np.random.default_rng([deal, 0]).permutation(len(dataset))
    table: ClipTable = replace(dataset.table, labels=dataset.table.labels[order])
    return replace(dataset, table=table)


def val_logits(
    request: Request, *, data: ProbeData, deal: int, labels: Callable[[ClipDataset], ClipDataset]
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Logits of val, and its labels, after a few steps on training clips whose labels went through `labels`."""
    trainer = trainer_for(request.experiment, request=replace(request, seed=deal), data=data)
    dataset, rng = labels(trainer.train_set), np.random.default_rng([deal, 1])
    fit = trainer.fit(request.experiment.train)
    device = trainer.accelerator.device
    known = with_frozen_tokens(trainer, dataset[every_clip(dataset)].to(device))
    for _ in range(_SHUFFLED_STEPS):
        chosen = tuple(rng.choice(len(dataset), size=min(8, len(dataset)), replace=False).tolist())
        trainer.model.train()
        if known.tokens is not None:
            batch = known.of(torch.tensor(chosen, device=device))
        else:
            batch = dataset[EpochIndices(epoch=0, indices=chosen)].to(device)
        optimise(fit, batch, progress=trainer.progress)
    trainer.model.eval()
    val = trainer.val_set[every_clip(trainer.val_set)].to(device)
    with torch.no_grad():
        logits = trainer.model(val).logits.cpu().numpy()
    return logits, trainer.val_set.table.majority


def _area(logits: NDArray[np.float32], labels: NDArray[np.int8]) -> float:
    """The area under the ROC curve, averaged over the criteria that have both kinds of clips."""
    pairs = [(y, x) for y, x in zip(labels.T, logits.T, strict=True) if 0 < y.sum() < len(y)]
    return float(np.mean([roc_auc_score(y, x) for y, x in pairs]))
