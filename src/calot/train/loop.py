"""The one training loop. It knows steps, epochs and stopping; what is trained, and on what, is passed in."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from calot.errors import CalotError, Stopped
from calot.evaluation.passes import Passes
from calot.out_of_memory import ClipsAtATime, Draws, let_go
from calot.processes import ALONE, Processes
from calot.train.objective import EpochScores, Objective, shares, total_units
from calot.train.observer import Observer
from calot.train.optim import Schedule
from calot.train.progress import Progress
from calot.train.stage import Stage
from calot.types import Batch
from calot.wall import spent_on


class TrainingData(Protocol):
    """What one stage is trained on and judged by."""

    @property
    def passes(self) -> Passes:
        """The passes that an epoch is judged by."""

    def batches(self, *, epoch: int, start: int) -> Iterator[Batch]:
        """An epoch's effective batches from the `start`-th on."""


class Keeper(Protocol):
    """What accompanies a stage while it trains: checkpoints, progress output, a signal that ends it."""

    def save(self, *, best: bool) -> None:
        """Write a checkpoint, as the best too when asked."""

    def due(self) -> bool:
        """Whether a checkpoint is due within the epoch."""

    def report(self, progress: Progress, loss: float) -> None:
        """Show progress."""

    def stop(self) -> bool:
        """Whether a signal asked for an end at the next step."""


class ClipKeeper(Protocol):
    """What takes an epoch's scores clip by clip."""

    def __call__(self, scores: EpochScores, *, best: bool) -> None:
        """Called after each epoch that may be chosen, before its checkpoint; `best` so far."""


def keep_no_clips(scores: EpochScores, *, best: bool) -> None:
    """Where nobody asks for them."""


@dataclass(frozen=True)
class Fit:
    """All that one stage needs. `called` is what a step calls: `model` itself, or what wraps it.

    `processes` share each step. What they do equals what one alone does as far as nothing is drawn for a clip while it
    is trained on: dropout and drop path draw again in each process for its own part, as many times and as independently
    as in one, but not the same.
    """

    model: nn.Module
    called: nn.Module
    stage: Stage
    objective: Objective
    optimiser: torch.optim.Optimizer
    schedule: Schedule
    accelerator: Accelerator
    seed: int
    micro_batch: int | None
    data: TrainingData
    keeper: Keeper
    observer: Observer = field(default_factory=Observer)
    keep_clips: ClipKeeper = keep_no_clips
    processes: Processes = ALONE
    at_a_time: ClipsAtATime = field(default_factory=ClipsAtATime)


def fit_stage(fit: Fit, progress: Progress) -> None:
    """Train one stage from where `progress` stands to its last epoch or until patience ends; changes `progress`."""
    while progress.epoch < fit.stage.epochs and _patient(fit.stage, progress):
        _train_epoch(fit, progress)
        try:
            scores = _scores(fit, progress)
        except Stopped:
            fit.keeper.save(best=False)
            raise
        progress.rows.append(_row(fit, progress, scores))
        begun = fit.objective.begun(epoch=progress.epoch)
        best = begun and scores is not None and fit.objective.selection.better(scores.value, than=progress.best_score)
        if scores is not None and best:
            progress.best_score, progress.best_epoch = scores.value, progress.epoch
        progress.epoch, progress.batch, progress.loss_sum, progress.clips = progress.epoch + 1, 0, 0.0, 0
        progress.terms = {}
        if scores is not None and begun:
            fit.keep_clips(scores, best=best)
        fit.keeper.save(best=best)


def _scores(fit: Fit, progress: Progress) -> EpochScores | None:
    """What the epoch ends with; None where the stage does not score it. Its observations end with it either way."""
    with spent_on("evaluation"), fit.observer.scoring(fit, progress=progress):
        if not fit.stage.scores(epoch=progress.epoch):
            return None
        scores = fit.objective.evaluate(fit.called, fit.data.passes, epoch=progress.epoch)
    _require_score(scores.value, progress=progress)
    return scores


def epochs_without_gain(stage: Stage) -> int:
    """How many epochs a stage trains when no scored one after the first is better."""
    progress = Progress()
    while progress.epoch < stage.epochs and _patient(stage, progress):
        if progress.best_epoch < 0 and stage.scores(epoch=progress.epoch):
            progress.best_epoch = progress.epoch
        progress.epoch += 1
    return progress.epoch


def _patient(stage: Stage, progress: Progress) -> bool:
    """Asked before each epoch: a stage ends only after one that was scored."""
    scored = progress.epoch > 0 and stage.scores(epoch=progress.epoch - 1)
    return not scored or progress.epoch - 1 - progress.best_epoch < stage.patience


def _train_epoch(fit: Fit, progress: Progress) -> None:
    fit.called.train()
    for batch in fit.data.batches(epoch=progress.epoch, start=progress.batch):
        # Dropout draws depend on the place in the run alone (and on which process it is), so that a resumed run draws
        # the same.
        place = [fit.seed, progress.stage, progress.epoch, progress.batch, *fit.processes.apart]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1))
        with fit.observer.step(fit, batch, progress=progress):
            loss = optimise(fit, batch, progress=progress)
        progress.loss_sum += loss * len(batch)
        progress.clips += len(batch)
        progress.batch += 1
        fit.keeper.report(progress, loss)
        if fit.keeper.stop():
            fit.keeper.save(best=False)
            raise Stopped
        if fit.keeper.due():
            fit.keeper.save(best=False)


def optimise(fit: Fit, batch: Batch, *, progress: Progress) -> float:
    """One optimiser step over an effective batch; returns its mean loss."""
    fit.schedule.apply(fit.optimiser, step=progress.step)
    terms = accumulate(fit, batch, progress=progress)
    norm = fit.accelerator.clip_grad_norm_(
        [p for g in fit.optimiser.param_groups for p in g["params"]], fit.stage.clip_norm
    )
    if fit.accelerator.scaler is None:  # fp16's loss scaler finds overflow itself, skips the step and lowers its scale
        _require_finite(float(norm), "gradient norm", progress=progress, part=batch)
    fit.optimiser.step()
    fit.optimiser.zero_grad(set_to_none=True)
    if fit.accelerator.optimizer_step_was_skipped:
        _require_scale(fit.accelerator, progress=progress, part=batch)
    else:
        progress.step += 1
        fit.objective.after_step(fit.model)
    _count_terms(progress, terms)
    return sum(terms.values())


def accumulate(fit: Fit, batch: Batch, *, progress: Progress) -> dict[str, float]:
    """Add an effective batch's gradient to the parameters', micro-batch by micro-batch; returns its weighted terms.

    Several processes take a part of it each, and then add up what they found. Where memory runs out, all of it is done
    again in smaller micro-batches.
    """
    units = total_units(fit.objective, batch.split(fit.micro_batch or len(batch)), epoch=progress.epoch)
    mine = fit.processes.part(batch)
    draws, terms = Draws.now(fit.accelerator.device), None
    while terms is None:
        size = 0 if mine is None else fit.at_a_time.of(fit.micro_batch, whole=len(mine))
        try:
            terms = _passes(fit, () if mine is None else mine.split(size), units=units, progress=progress)
        except (RuntimeError, MemoryError) as error:
            fit.at_a_time.lower(error, tried=size, where=_where(progress))
        if terms is None:  # out here, where the error holds nothing any more
            fit.optimiser.zero_grad(set_to_none=True)
            let_go(fit.accelerator.device)
            draws.again()
    fit.processes.add_up_gradients([p for g in fit.optimiser.param_groups for p in g["params"]])
    return fit.processes.add_up(terms, names=units)


def _passes(fit: Fit, parts: Sequence[Batch], *, units: Mapping[str, float], progress: Progress) -> dict[str, float]:
    """Forward and backward of each micro-batch; returns the weighted terms of all of them."""
    found: list[tuple[Batch, Sequence[str], torch.Tensor]] = []
    for part in (p.to(fit.accelerator.device) for p in parts):
        share = shares(fit.objective.step(fit.called, part, epoch=progress.epoch), units=units)
        if not share:
            continue
        fit.observer.shares(fit, share)
        total = reduce(torch.add, share.values())
        fit.accelerator.backward(total)
        found.append((part, tuple(share), torch.stack([v.detach().double() for v in share.values()])))
    terms: dict[str, float] = {}
    for part, names, values in found:  # only now: each reading waits for the device
        for name, value in zip(names, values.tolist(), strict=True):
            _require_finite(value, f"loss ({name})", progress=progress, part=part)
            terms[name] = terms.get(name, 0.0) + value
    return terms


def _where(progress: Progress) -> str:
    return f"stage {progress.stage + 1}, epoch {progress.epoch + 1}, batch {progress.batch + 1}"


def _count_terms(progress: Progress, terms: dict[str, float]) -> None:
    for name, value in terms.items():
        total, batches = progress.terms.get(name, [0.0, 0])
        progress.terms[name] = [total + value, batches + 1]


def _require_score(value: float, *, progress: Progress) -> None:
    if not math.isfinite(value):
        raise CalotError(
            f"the score of stage {progress.stage + 1}, epoch {progress.epoch + 1} is {value}: no epoch can be "
            "selected by it. The run is stopped; its last checkpoint is intact."
        )


def _require_scale(accelerator: Accelerator, *, progress: Progress, part: Batch) -> None:
    """fp16's scaler halves its scale at each overflow; below 1, gradients are not finite even unscaled."""
    scale = 1.0 if accelerator.scaler is None else accelerator.scaler.get_scale()
    if scale < 1.0:
        _require_finite(math.inf, "gradient at any loss scale", progress=progress, part=part)


def _require_finite(value: float, what: str, *, progress: Progress, part: Batch) -> None:
    if not math.isfinite(value):
        raise CalotError(
            f"non-finite {what} ({value}) in {_where(progress)}; clips {part.index.tolist()[:8]} of the training "
            "table. The run is stopped; its last checkpoint is intact. Lower train.lr, or use compute.precision=fp32."
        )


def _row(fit: Fit, progress: Progress, scores: EpochScores | None) -> dict[str, Any]:
    return {
        "stage": progress.stage + 1,
        "epoch": progress.epoch + 1,
        "step": progress.step,
        "lr": fit.optimiser.param_groups[-1]["lr"],
        "train_loss": progress.loss_sum / progress.clips,
        **_term_columns(progress, every=fit.objective.terms(epoch=progress.epoch)),
        **({} if scores is None else scores.columns),
    }


def _term_columns(progress: Progress, *, every: Collection[str]) -> dict[str, float | None]:
    """Of each term, its mean over the batches that had it, and the share of batches that had it."""
    columns: dict[str, float | None] = {}
    for name in every if len(every) > 1 else ():
        total, batches = progress.terms.get(name, [0.0, 0])
        columns[f"train_{name}"] = total / batches if batches else None
        columns[f"share_{name}"] = batches / progress.batch
    return columns
