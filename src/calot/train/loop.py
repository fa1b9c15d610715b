"""The one training loop. It knows steps, epochs and stopping; what is trained, and on what, is handed to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from calot.errors import CalotError, Stopped
from calot.train.losses import Loss, effective_loss, term_units
from calot.train.optim import Schedule
from calot.train.stage import Stage
from calot.types import Batch


@dataclass
class Progress:
    """Where a run stands, beside its weights and optimiser: all that a resume needs, and no clock times.

    `epoch` and `batch` are the next to do; `step` counts optimiser steps of this stage; `loss_sum`, `clips` and
    `terms` (of each loss term the sum over batches and the batches that had it) are the running epoch's; `rows` is
    metrics.csv so far; `starts` says of each later stage whether it began as the best of the one before.
    """

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    clips: int = 0
    terms: dict[str, list[float]] = field(default_factory=dict)
    best_map: float = -1.0
    best_epoch: int = -1
    rows: list[dict[str, Any]] = field(default_factory=list)
    starts: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class EpochScores:
    """What an epoch ends with; written to metrics.csv under these names. `val_map` selects the best epoch."""

    val_map: float
    columns: dict[str, float | None]


@dataclass(frozen=True)
class Fit:
    """All that one stage needs.

    `epoch_batches(epoch, start)` yields effective batches from the `start`-th on; `evaluate()` scores the model;
    `save(best)` writes a checkpoint (as the best too, when asked) and `due()` says that one is due within the epoch;
    `report` shows progress; `stop()` says that a signal asked for an end at the next step. `evaluate` may raise
    Stopped for the same.
    """

    model: nn.Module
    stage: Stage
    loss: Loss
    optimiser: torch.optim.Optimizer
    schedule: Schedule
    accelerator: Accelerator
    seed: int
    micro_batch: int | None
    epoch_batches: Callable[[int, int], Iterator[Batch]]
    evaluate: Callable[[], EpochScores]
    save: Callable[[bool], None]
    due: Callable[[], bool]
    report: Callable[[Progress, float], None]
    stop: Callable[[], bool]


def fit_stage(fit: Fit, progress: Progress) -> None:
    """Train one stage from where `progress` stands to its last epoch or until patience ends; changes `progress`."""
    while progress.epoch < fit.stage.epochs and _patient(fit.stage, progress):
        _train_epoch(fit, progress)
        try:
            scores = fit.evaluate()
        except Stopped:
            fit.save(False)
            raise
        progress.rows.append(_row(fit, progress, scores))
        best = fit.loss.begun(epoch=progress.epoch) and scores.val_map > progress.best_map
        if best:
            progress.best_map, progress.best_epoch = scores.val_map, progress.epoch
        progress.epoch, progress.batch, progress.loss_sum, progress.clips = progress.epoch + 1, 0, 0.0, 0
        progress.terms = {}
        fit.save(best)


def epochs_without_gain(stage: Stage) -> int:
    """How many epochs a stage trains when none after the first is better."""
    progress = Progress(epoch=1, best_epoch=0)
    while progress.epoch < stage.epochs and _patient(stage, progress):
        progress.epoch += 1
    return progress.epoch


def _patient(stage: Stage, progress: Progress) -> bool:
    return progress.epoch - 1 - progress.best_epoch < stage.patience


def _train_epoch(fit: Fit, progress: Progress) -> None:
    fit.model.train()
    for batch in fit.epoch_batches(progress.epoch, progress.batch):
        # Dropout draws depend on the place in the run alone, so that a resumed run draws what the first would have.
        place = [fit.seed, progress.stage, progress.epoch, progress.batch]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1))
        loss = optimise(fit, batch, progress=progress)
        progress.loss_sum += loss * len(batch)
        progress.clips += len(batch)
        progress.batch += 1
        fit.report(progress, loss)
        if fit.stop():
            fit.save(False)
            raise Stopped
        if fit.due():
            fit.save(False)


def optimise(fit: Fit, batch: Batch, *, progress: Progress) -> float:
    """One optimiser step over an effective batch; returns its mean loss."""
    fit.schedule.apply(fit.optimiser, step=progress.step)
    terms = accumulate(fit, batch, progress=progress)
    norm = fit.accelerator.clip_grad_norm_(
        [p for g in fit.optimiser.param_groups for p in g["params"]], fit.stage.clip_norm
    )
    if fit.accelerator.scaler is None:  # fp16's loss scaler finds overflow itself, skips the step and lowers its scale
        _require_finite(norm, "gradient norm", progress=progress, part=batch)
    fit.optimiser.step()
    fit.optimiser.zero_grad(set_to_none=True)
    if not fit.accelerator.optimizer_step_was_skipped:
        progress.step += 1
    _count_terms(progress, terms)
    return sum(terms.values())


def accumulate(fit: Fit, batch: Batch, *, progress: Progress) -> dict[str, float]:
    """Add an effective batch's gradient to the parameters', micro-batch by micro-batch; returns its weighted terms."""
    parts = batch.split(fit.micro_batch or len(batch))
    units = term_units(fit.loss, parts, epoch=progress.epoch)
    terms: dict[str, float] = {}
    for part in parts:
        part = part.to(fit.accelerator.device)
        with fit.accelerator.autocast():
            outputs = fit.model(part)
        share = effective_loss(fit.loss, outputs, part, units=units, epoch=progress.epoch)
        _require_finite(share.total, "loss", progress=progress, part=part)
        fit.accelerator.backward(share.total)
        terms = {name: terms.get(name, 0.0) + share.terms.get(name, 0.0) for name in terms | share.terms}
    return terms


def _count_terms(progress: Progress, terms: dict[str, float]) -> None:
    for name, value in terms.items():
        total, batches = progress.terms.get(name, [0.0, 0])
        progress.terms[name] = [total + value, batches + 1]


def _require_finite(value: torch.Tensor, what: str, *, progress: Progress, part: Batch) -> None:
    if not torch.isfinite(value):
        raise CalotError(
            f"non-finite {what} ({float(value.detach())}) in stage {progress.stage + 1}, epoch {progress.epoch + 1}, "
            f"batch {progress.batch + 1}; clips {part.index.tolist()[:8]} of the training table. "
            "The run is stopped; its last checkpoint is intact. Lower train.lr, or use compute.precision=fp32."
        )


def _row(fit: Fit, progress: Progress, scores: EpochScores) -> dict[str, Any]:
    return {
        "stage": progress.stage + 1,
        "epoch": progress.epoch + 1,
        "step": progress.step,
        "lr": fit.optimiser.param_groups[-1]["lr"],
        "train_loss": progress.loss_sum / progress.clips,
        **_term_columns(progress, every=[term.name for term in fit.loss.active(epoch=progress.epoch)]),
        **scores.columns,
    }


def _term_columns(progress: Progress, *, every: Collection[str]) -> dict[str, float | None]:
    """Of each term, its mean over the batches that had it, and the share of batches that had it."""
    columns: dict[str, float | None] = {}
    for name in every if len(every) > 1 else ():
        total, batches = progress.terms.get(name, [0.0, 0])
        columns[f"train_{name}"] = total / batches if batches else None
        columns[f"share_{name}"] = batches / progress.batch
    return columns
