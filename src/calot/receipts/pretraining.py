"""The receipt of a pretraining: what it can prove without labels. What trains, how the teacher moves, that each kind of
mask teaches something, and in the run itself how much was hidden."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from calot.models.backbones.protocol import PREDICTOR
from calot.pretraining.masks import Extent, MultiBlock
from calot.pretraining.objective import MaskedPredictionObjective
from calot.progress import Silent
from calot.provenance.evidence import GradientEvidence, ObservedReading, StageCounts, TermReach
from calot.provenance.receipt import CHECKS, Receipt, ReceiptCheck
from calot.receipts.gradients import (
    gradients_check,
    keep_largest,
    parameters_check,
    share_of_term,
    stage_counts,
    still_groups,
    terms_check,
)
from calot.receipts.meters.band import DoseBand, add, never
from calot.receipts.observed import observed_check
from calot.receipts.probe import CLIPS, FLOOR, STEPS
from calot.receipts.watching import RunObserver
from calot.run.data import OpenData
from calot.run.request import Request
from calot.run.signals import Stopper
from calot.run.trainer import Trainer, stage_schedule
from calot.train.loop import Fit, optimise
from calot.train.objective import shares, total_units
from calot.train.progress import Progress
from calot.types import Batch

#: How far the teacher is moved away before a probe step, relative to its weights, so that its way back can be measured;
#: and how far that way may be from the arithmetic, relative to it.
_AWAY, _OFF = 0.05, 0.02
_WITHOUT = {
    "declared difference": "a pretraining's settings are not reverted one by one",
    "switched off": "a pretraining's settings are not switched off one by one",
    "dose": "how much is hidden is observed in the run, epoch by epoch",
    "instruments": "nothing reads attention",
    "ablation": "no part of the trained model is switched off: no score would change",
    "ledger": "there are no predictions to compare",
    "controls": "there are no labels to shuffle, and the loss of a pretraining is not one to overfit",
}


def receipt_of_pretraining(request: Request, *, data: OpenData) -> Receipt:
    """Make the checks that need no trained weights, on a few of the run's own training clips; `observed` is pending."""
    experiment = request.experiment
    receipt = Receipt(experiment=experiment.name, baseline=None, fingerprint=experiment.fingerprint(), checks=())
    trainer = Trainer.start(replace(request, resume=False), data=data, ui=Silent(), stopper=Stopper())
    counts: list[StageCounts] = []
    gradients: list[GradientEvidence] = []
    terms: list[TermReach] = []
    for number, stage in enumerate(experiment.stages):
        trainer.progress = Progress(stage=number)
        counts.append(_with_teacher(trainer, stage_counts(trainer, stage)))
        fit = trainer.fit(stage)
        terms += _terms(trainer, fit)
        gradients.append(_steps(trainer, fit))
    for check in (parameters_check(counts), gradients_check(gradients), terms_check(terms)):
        receipt = receipt.with_check(check)
    for name, why in _WITHOUT.items():
        receipt = receipt.with_check(ReceiptCheck(name=name, status="not applicable", why=why))
    return receipt.with_check(ReceiptCheck(name="observed", status="pending", why=f"{CHECKS['observed']}?"))


def with_pretraining(receipt: Receipt, trainer: Trainer, *, chosen: ObservedReading) -> Receipt:
    """The same with what was observed in the run; `chosen` is what is known of the epoch that was kept."""
    if receipt.check("observed").status != "pending":
        return receipt  # a complete run that is resumed
    experiment, table = trainer.request.experiment, trainer.train_set.table
    idle = tuple(f"update of {part} " for part in trainer.model.parts if part != "backbone")
    rows = [
        {**row, "readings": {k: v for k, v in row["readings"].items() if not k.startswith(idle)}}
        for row in trainer.progress.observed
    ]
    seen = observed_check(
        experiment,
        rows,
        labels=table.labels[:, :0],
        steps=[-(-len(table) // stage.batch) for stage in experiment.stages],
        chosen=chosen,
        beside=mask_bands(_objective(trainer).spec.masks, grid=experiment.backbone.grid),
    )
    return receipt.with_check(seen)


def mask_bands(kinds: Sequence[MultiBlock], *, grid: Extent) -> dict[str, DoseBand]:
    """Of each kind, how much of a clip a mask can hide: at least its smallest block, at most all its blocks apart."""
    whole, bands = int(np.prod(grid)), {"hidden: a token both seen and predicted": never()}
    for kind in kinds:
        sizes = [int(np.prod(kind.size(grid, aspect=float(a)))) for a in np.linspace(*kind.aspect, 101)]
        low, high = min(sizes) / whole, min(max(sizes) * kind.blocks, whole - 1) / whole
        bands[f"hidden: share of tokens predicted, {kind.name}"] = replace(DoseBand.between(low, high), each=True)
        seen = DoseBand.between(1 / whole, 1 - low)
        bands[f"hidden: share of tokens seen, {kind.name}"] = replace(seen, each=True)
        if len(kinds) > 1:
            bands[f"gradient share of {kind.name}"] = DoseBand.between(FLOOR, 1.0).optional()
    return bands


class PretrainingObserver(RunObserver):
    """Looks on in a pretraining: at all that a run shows, and at what each batch hides."""

    @contextlib.contextmanager
    def step(self, fit: Fit, batch: Batch, *, progress: Progress) -> Iterator[None]:
        whole = int(np.prod(self.experiment.backbone.grid))
        for name, places in batch.hidden.items():
            context, targets = places.context.cpu(), places.targets.cpu()
            add(progress.observing, f"hidden: share of tokens predicted, {name}", [targets.shape[1] / whole])
            add(progress.observing, f"hidden: share of tokens seen, {name}", [context.shape[1] / whole])
            both = [float(torch.isin(c, t).any()) for c, t in zip(context, targets, strict=True)]
            add(progress.observing, "hidden: a token both seen and predicted", both)
        with super().step(fit, batch, progress=progress):
            yield


def _objective(trainer: Trainer) -> MaskedPredictionObjective:
    assert isinstance(trainer.objective, MaskedPredictionObjective)
    return trainer.objective


def _with_teacher(trainer: Trainer, counts: StageCounts) -> StageCounts:
    """A teacher's tensor that would train counts as one that nobody listed."""
    training = [f"teacher.{n}" for n, p in _objective(trainer).teacher.named_parameters() if p.requires_grad]
    return replace(counts, training_but_not_listed=(*counts.training_but_not_listed, *training))


def _batch(trainer: Trainer, *, epoch: int) -> Batch:
    """A few of the first effective batch's clips, with their masks."""
    batch = next(trainer.batches(trainer.request.experiment.stages[trainer.progress.stage], epoch=epoch, start=0))
    return batch.split(CLIPS)[0]


def _terms(trainer: Trainer, fit: Fit) -> list[TermReach]:
    """Each kind of mask alone: whether its gradient reaches encoder and predictor, and its share of the whole."""
    batch, model = _batch(trainer, epoch=0), trainer.model
    model.train()
    units = total_units(fit.objective, [batch], epoch=0)
    trained = {n: p for n, p in model.backbone.named_parameters() if p.requires_grad}
    norms: dict[str, dict[str, float]] = {}
    for name, value in shares(fit.objective.step(fit.called, batch, epoch=0), units=units).items():
        found = torch.autograd.grad(value, list(trained.values()), retain_graph=True, allow_unused=True)
        squares: dict[str, float] = {}
        for tensor, gradient in zip(trained, found, strict=True):
            if gradient is not None and bool(gradient.any()):
                squares[_part(tensor)] = squares.get(_part(tensor), 0.0) + float(gradient.double().square().sum())
        norms[name] = {part: sqrt(square) for part, square in squares.items()}
    return [
        TermReach(
            stage=trainer.progress.stage + 1,
            term=kind,
            units=units.get(kind, 0.0),
            declared=("encoder", "predictor"),
            reached=tuple(sorted(norms.get(kind, {}))),
            share=share_of_term(kind, norms=norms) if kind in norms else 0.0,
        )
        for kind in (k.name for k in _objective(trainer).spec.masks)
    ]


def _part(tensor: str) -> str:
    return "predictor" if PREDICTOR in tensor.split(".") else "encoder"


def _steps(trainer: Trainer, fit: Fit) -> GradientEvidence:
    """A few real steps: the largest gradient of each tensor of the encoder and the predictor, whether the parts that
    classify stay, and whether the teacher follows by its momentum."""
    model, objective, stage = trainer.model, _objective(trainer), fit.stage
    still = still_groups(fit, schedule=stage_schedule(stage, clips=len(trainer.train_set)))
    still = tuple(group for group in still if group.split(" ")[0] not in model.parts.keys() - {"backbone"})
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad and n.startswith("backbone.")}
    largest = dict.fromkeys(trained, 0.0)
    scaled = trainer.accelerator.scaler is not None
    handles = [
        p.register_post_accumulate_grad_hook(keep_largest(largest, n, scaled=scaled))  # type: ignore[no-untyped-call]
        for n, p in trained.items()
    ]
    others = {n: p.detach().clone() for n, p in model.named_parameters() if n not in trained}
    model.train()
    astray: set[str] = set()
    for step in range(STEPS):
        before = _moved_away(objective, seed=step)
        torch.manual_seed(step)
        made = objective.steps
        optimise(fit, _batch(trainer, epoch=step), progress=trainer.progress)
        if objective.steps > made:  # fp16's scaler may have skipped it
            astray.update(_astray(trainer, before, momentum=objective.spec.momentum_at(made)))
    for handle in handles:
        handle.remove()
    now = dict(model.named_parameters())
    moved = [n for n, kept in others.items() if not torch.equal(kept, now[n])]
    return GradientEvidence(
        stage=trainer.progress.stage + 1,
        steps=STEPS,
        clips=CLIPS,
        trained=len(trained),
        frozen=len(others) + len(list(objective.teacher.parameters())),
        without_gradient=tuple(sorted(n for n, g in largest.items() if g == 0.0)),
        not_finite=tuple(sorted(n for n, g in largest.items() if g != g or g == float("inf"))),
        still=still,
        frozen_that_moved=tuple(sorted([*moved, *astray])),
    )


@torch.no_grad()
def _moved_away(objective: MaskedPredictionObjective, *, seed: int) -> dict[str, Tensor]:
    """The teacher's tensors after each was moved by a small share of its size: a momentum near 1 moves weights that
    are the encoder's by less than rounding."""
    generator = torch.Generator().manual_seed(seed)
    for p in objective.teacher.parameters():
        noise = torch.randn(p.shape, generator=generator).to(p)
        p.add_(_AWAY * float(p.square().mean().sqrt().clamp_min(1e-3)) * noise)
    return {n: p.clone() for n, p in objective.teacher.named_parameters()}


@torch.no_grad()
def _astray(trainer: Trainer, before: dict[str, Tensor], *, momentum: float) -> list[str]:
    """The teacher's tensors that did not go (1 - momentum) of the way to the encoder's."""
    theirs, found = dict(trainer.model.backbone.named_parameters()), []
    for name, own in _objective(trainer).teacher.named_parameters():
        wanted = (1 - momentum) * (theirs[name].double() - before[name].double())
        apart = float((own.double() - before[name].double() - wanted).norm())
        rounding = 1e-7 * float(before[name].double().norm())
        if apart > _OFF * float(wanted.norm()) + rounding:
            found.append(f"teacher.{name}, from its moving average")
    return found
