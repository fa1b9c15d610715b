"""Check 9: at tiny scale with regularisers off, the model overfits eight clips, and shuffled labels fall to chance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calot.data.clips import ClipTable
from calot.data.dataset import ClipDataset, EpochIndices
from calot.data.transforms import normalise
from calot.experiment import TINY, Experiment, scaled
from calot.models.heads import MLPHead
from calot.models.pooling import AttentivePooling
from calot.progress import Ui
from calot.run.environment import code_hash
from calot.run.receipts.probe import ProbeData, every_clip, probe_data, session_for
from calot.run.request import Request
from calot.run.session import Session
from calot.statistics.metrics import mean_ap
from calot.statistics.receipt import ReceiptCheck, Status
from calot.train.loop import optimise
from calot.train.stage import Compute, Stage
from calot.types import Batch
from calot.writing import write_json

_OVERFIT_STEPS, _LEARNT = 150, 0.99
_SHUFFLED_STEPS, _SHUFFLED_CLIPS = 25, 32

#: Deals of the labels, and the mean p over them below which they know something. Chance gets there four times in ten
#: thousand (three uniform numbers that add up to less than 0.135), a leak always (each p is then one over the clips).
_DEALS, _RARE = 3, 0.045


def controls_check(experiment: Experiment, *, request: Request, results: Path, ui: Ui) -> ReceiptCheck:
    """Make both controls once an experiment (a treatment and this code), and keep them in the results folder."""
    bare = unregularised(scaled(experiment, TINY) if request.scale != TINY else experiment)
    path = results / "controls" / f"{bare.fingerprint()[:16]}_{code_hash()[:8]}.json"
    evidence = _kept(path)
    if evidence is None:
        asked = replace(request, experiment=bare, scale=TINY, seed=0)
        with probe_data(request.data, experiment=bare, ui=ui) as data:
            evidence = {"overfit": _overfit(asked, data=data), "shuffled": _shuffled(asked, data=data)}
        write_json(path, evidence)
    over, shuffled = evidence["overfit"], evidence["shuffled"]
    problems = []
    if not over["map"] >= _LEARNT:
        problems.append(f"after {over['steps']} steps on {over['clips']} clips, training mAP is {over['map']:.2f}")
    if shuffled["p"] < _RARE:
        problems.append(
            f"shuffled labels score mAP {shuffled['map']:.2f} on val, which chance does in {shuffled['p']:.3f}"
        )
    why = f"eight clips are learnt (mAP {over['map']:.2f}), shuffled labels fall to chance (p {shuffled['p']:.2f})"
    status: Status = "failed" if problems else "passed"
    return ReceiptCheck(name="controls", status=status, why="; ".join(problems) or why, evidence=evidence)


def unregularised(experiment: Experiment) -> Experiment:
    """The same without dropout, weight decay, augmentation, mixing, smoothing, drop path and schedule, in one stage."""
    head, pooling = experiment.head, experiment.pooling
    stage = experiment.train
    return replace(
        experiment,
        augment=(),
        mixing=None,
        label_smoothing=0.0,
        backbone=replace(experiment.backbone, drop_path=0.0),
        head=replace(head, dropout=0.0) if isinstance(head, MLPHead) else head,
        pooling=replace(pooling, dropout=0.0) if isinstance(pooling, AttentivePooling) else pooling,
        segmentation=None if experiment.segmentation is None else replace(experiment.segmentation, dropout=0.0),
        train=Stage(
            adaptation=stage.adaptation.without_dropout(), lr=2e-3, min_lr=2e-3, warmup=0, weight_decay=0, epochs=10**4
        ),
        then=(),
        compute=Compute(threads=experiment.compute.threads, device=experiment.compute.device),
    )


def _overfit(request: Request, *, data: ProbeData) -> dict[str, Any]:
    """Train on the probe's eight clips until they are ranked without a mistake."""
    session = session_for(request.experiment, request=request, data=data)
    batch = session.train_set[every_clip(session.train_set)].to(session.accelerator.device)
    score, steps = 0.0, 0
    fit = session.fit(request.experiment.train)
    while steps < _OVERFIT_STEPS and score < _LEARNT:
        for _ in range(10):
            session.model.train()
            optimise(fit, batch, progress=session.progress)
            steps += 1
        score = _map(session, batch)
    return {"map": score, "steps": steps, "clips": len(batch)}


@torch.no_grad()
def _map(session: Session, batch: Batch) -> float:
    """Macro mAP of a batch in training mode, where true masks decide; nothing in it draws any more."""
    session.model.train()
    logits = session.model(normalise(batch.video), masks=batch.masks).logits.cpu().numpy()
    return mean_ap((batch.labels.cpu().numpy() >= 0.5).astype(np.int8), logits).over_defined or 0.0


def _shuffled(request: Request, *, data: ProbeData) -> dict[str, Any]:
    """Train anew on several deals of the labels to other clips; val is then predicted no better than by chance."""
    own, chances, p = [], [], []
    for deal in range(_DEALS):
        session = session_for(request.experiment, request=request, data=replace(data, count=_SHUFFLED_CLIPS))
        dataset = session.train_set
        rng = np.random.default_rng(deal)
        table: ClipTable = replace(dataset.table, labels=dataset.table.labels[rng.permutation(len(dataset))])
        shuffled = replace(dataset, table=table)
        fit = session.fit(request.experiment.train)
        for _ in range(_SHUFFLED_STEPS):
            chosen = tuple(rng.choice(len(shuffled), size=min(8, len(shuffled)), replace=False).tolist())
            session.model.train()
            batch = shuffled[EpochIndices(epoch=0, indices=chosen)].to(session.accelerator.device)
            optimise(fit, batch, progress=session.progress)
        found = _against_chance(*_val(session, session.val_set))
        own.append(found["map"])
        chances.append(found["chance"])
        p.append(found["p"])
    counts = {"deals": _DEALS, "steps": _SHUFFLED_STEPS, "clips": len(dataset), "val_clips": len(session.val_set)}
    means = {"map": float(np.mean(own)), "chance": float(np.mean(chances)), "p": float(np.mean(p))}
    return {**means, "p of each deal": p, **counts}


@torch.no_grad()
def _val(session: Session, dataset: ClipDataset) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    session.model.eval()
    batch = dataset[every_clip(dataset)].to(session.accelerator.device)
    return session.model(normalise(batch.video)).logits.cpu().numpy(), dataset.table.majority


def _against_chance(logits: NDArray[np.float32], labels: NDArray[np.int8]) -> dict[str, float]:
    """Macro mAP, and how often labels moved along the clips score as high.

    Clips stand in the order of their videos, and neighbours are alike in labels and logits: dealt out singly, labels
    would make any smooth score look good. A shift all round keeps them beside their neighbours.
    """
    shifts = [mean_ap(np.roll(labels, shift, axis=0), logits).over_defined or 0.0 for shift in range(len(labels))]
    own = shifts[0]
    return {"map": own, "chance": float(np.mean(shifts)), "p": sum(s >= own for s in shifts) / len(shifts)}


def _kept(path: Path) -> dict[str, Any] | None:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return data if {"overfit", "shuffled"} <= set(data) else None
    except (OSError, ValueError):
        return None
