"""Checks 2, 3 and 4: what trains is what was declared, every tensor of it learns, and every loss term reaches its
parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from typing import Any

import torch

from calot.experiment import Experiment
from calot.provenance.evidence import (
    GradientEvidence,
    GradientsEvidence,
    ParametersEvidence,
    StageCounts,
    TargetCount,
    TermReach,
    TermsEvidence,
)
from calot.provenance.receipt import ReceiptCheck
from calot.receipts.probe import (
    CLIPS,
    FLOOR,
    STEPS,
    STILL,
    ProbeData,
    clean_batch,
    trainer_for,
    with_every_term,
)
from calot.run.request import Request
from calot.run.trainer import Trainer, stage_schedule
from calot.train.loop import Fit, optimise
from calot.train.losses import Term
from calot.train.optim import Schedule
from calot.train.progress import Progress
from calot.train.stage import Stage
from calot.types import Batch


def training_checks(
    experiment: Experiment, *, request: Request, data: ProbeData
) -> tuple[ReceiptCheck, ReceiptCheck, ReceiptCheck]:
    """Run a few real steps of every stage on the probe's clips and look at every tensor."""
    trainer = trainer_for(experiment, request=request, data=data)
    counts: list[StageCounts] = []
    gradients: list[GradientEvidence] = []
    terms: list[TermReach] = []
    clips = len(data.of_experiment(experiment).whole("train", training=True))
    for number, stage in enumerate(experiment.stages):
        trainer.progress = Progress(stage=number)
        counts.append(stage_counts(trainer, stage))
        terms += _terms(trainer)
        gradients.append(_steps(trainer, stage, clips=clips))
    return parameters_check(counts), gradients_check(gradients), terms_check(terms)


def stage_counts(trainer: Trainer, stage: Stage) -> StageCounts:
    """How many parameters of each target train in a stage, and how many it declares."""
    groups = trainer.groups(stage)
    model = trainer.model
    observed: dict[str, int] = {}
    for name, parameter in model.backbone.named_parameters():
        if parameter.requires_grad:
            key = stage.adaptation.target_of(model.backbone.place(name))
            observed[key] = observed.get(key, 0) + parameter.numel()
    declared = dict(stage.declared(model.backbone))
    for part, module in model.parts.items():
        if part != "backbone":
            declared[part] = sum(p.numel() for p in module.parameters())
            observed[part] = sum(p.numel() for p in module.parameters() if p.requires_grad)
    listed = {id(p) for g in groups for p in g.parameters}
    training = {id(p): n for n, p in model.named_parameters() if p.requires_grad}
    names = {id(p): n for n, p in model.named_parameters()}
    return StageCounts(
        stage=trainer.progress.stage + 1,
        targets=tuple(
            TargetCount(target=key, declared=declared.get(key, 0), observed=observed.get(key, 0))
            for key in dict.fromkeys([*declared, *observed])
        ),
        listed_but_frozen=tuple(sorted(names.get(i, "a tensor outside the model") for i in listed - set(training))),
        training_but_not_listed=tuple(sorted(training[i] for i in set(training) - listed)),
    )


def parameters_check(stages: list[StageCounts]) -> ReceiptCheck:
    """Check 2, from the counts of every stage."""
    problems = []
    for s in stages:
        problems += [
            f"stage {s.stage}: {t.target} declares {t.declared:,} parameters, {t.observed:,} train"
            for t in sorted(s.targets, key=lambda t: t.target)
            if t.declared != t.observed
        ]
        problems += _some(s.stage, "listed but frozen", s.listed_but_frozen)
        problems += _some(s.stage, "training but not listed", s.training_but_not_listed)
    trained = " then ".join(f"{sum(t.observed for t in s.targets):,}" for s in stages)
    why = "; ".join(problems) or f"{trained} parameters train, as declared"
    return ReceiptCheck(
        name="trainable parameters",
        status="failed" if problems else "passed",
        why=why,
        evidence=ParametersEvidence(stages=tuple(stages)),
    )


def _some(stage: int, what: str, names: Sequence[str]) -> list[str]:
    """One line that names the first of those that did not do as they should, if any."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [f"stage {stage}: {what}: {names[0]}{more}"] if names else []


def _steps(trainer: Trainer, stage: Stage, *, clips: int) -> GradientEvidence:
    """A few steps: the largest gradient of each trainable tensor, and which frozen tensors moved."""
    fit = with_every_term(trainer.fit(stage))
    model = trainer.model
    still = still_groups(fit, schedule=stage_schedule(stage, clips=clips))
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    largest = {n: 0.0 for n, p in model.named_parameters() if p.requires_grad}
    handles = [
        p.register_post_accumulate_grad_hook(keep_largest(largest, n, scaled=trainer.accelerator.scaler is not None))  # type: ignore[no-untyped-call]
        for n, p in model.named_parameters()
        if p.requires_grad
    ]
    model.train()
    for step in range(STEPS):
        batch = trainer.prepared(clean_batch(trainer), epoch=step, start=0).batch
        torch.manual_seed(step)
        optimise(fit, batch, progress=trainer.progress)
    for handle in handles:
        handle.remove()
    now = dict(model.named_parameters())
    return GradientEvidence(
        stage=trainer.progress.stage + 1,
        steps=STEPS,
        clips=CLIPS,
        trained=len(largest),
        frozen=len(frozen),
        without_gradient=tuple(sorted(n for n, g in largest.items() if g == 0.0)),
        not_finite=tuple(sorted(n for n, g in largest.items() if g != g or g == float("inf"))),
        still=still,
        frozen_that_moved=tuple(sorted(n for n, before in frozen.items() if not torch.equal(before, now[n]))),
    )


def still_groups(fit: Fit, *, schedule: Schedule) -> tuple[str, ...]:
    """Groups that Adam, which moves each weight by about its rate in a step, cannot move over the whole stage."""
    found = []
    for group in fit.optimiser.param_groups:
        path = sum(schedule.lr(peak=group["peak_lr"], step=s) for s in range(schedule.total_steps))
        weights = torch.cat([p.detach().float().flatten() for p in group["params"]])
        typical = float(weights.square().mean().sqrt())
        if path < STILL * typical:
            found.append(f"{group['name']} (at most {path / typical:.1g} of its weights in a stage)")
    return tuple(found)


def keep_largest(largest: dict[str, float], name: str, *, scaled: bool) -> Any:
    """Note a parameter's largest gradient; under fp16's loss scaler, which skips a step that overflows, the finite."""

    def hook(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        value = float(parameter.grad.abs().max())
        if scaled and not isfinite(value):
            return
        if not value <= largest[name]:  # also where it is not a number
            largest[name] = value

    return hook


def gradients_check(stages: list[GradientEvidence]) -> ReceiptCheck:
    """Check 3, from the steps of every stage."""
    problems: list[str] = []
    for s in stages:
        problems += _some(s.stage, "without gradient", s.without_gradient)
        problems += _some(s.stage, "not finite", s.not_finite)
        problems += _some(s.stage, "negligible, for its rate is too low to move it", s.still)
        problems += _some(s.stage, "frozen that moved", s.frozen_that_moved)
    counted = ", ".join(f"{s.trained} tensors learn, {s.frozen} stay" for s in stages)
    return ReceiptCheck(
        name="gradients",
        status="failed" if problems else "passed",
        why="; ".join(problems) or f"within {STEPS} steps {counted}",
        evidence=GradientsEvidence(stages=tuple(stages)),
    )


def _terms(trainer: Trainer) -> list[TermReach]:
    """Each loss term alone, on a prepared batch in training mode: the parts of the model its gradient reaches, and its
    share of it there."""
    loss, model = trainer.request.experiment.loss, trainer.model
    model.train()
    batch = trainer.prepared(clean_batch(trainer), epoch=0, start=0).batch
    trains = {part for part, module in model.parts.items() if _any_trains(module)}
    terms = loss.every_term()
    norms = {term.name: _norms(trainer, batch, term=term) for term in terms}
    return [
        TermReach(
            stage=trainer.progress.stage + 1,
            term=term.name,
            units=term.loss.units(batch),
            declared=tuple(sorted(model.reached(term.loss.reaches) & trains)),
            reached=tuple(sorted(norms[term.name])),
            share=share_of_term(term.name, norms=norms),
        )
        for term in terms
    ]


def share_of_term(term: str, *, norms: Mapping[str, Mapping[str, float]]) -> float:
    """The part of the gradient's norm that is one term's: in the whole model, or in a part that others reach too, where
    that is more."""
    wholes = {name: sqrt(sum(n * n for n in parts.values())) for name, parts in norms.items()}
    shares = [wholes[term] / total] if (total := sum(wholes.values())) else [0.0]
    for part, norm in norms[term].items():
        others = sum(parts.get(part, 0.0) for name, parts in norms.items() if name != term)
        shares += [norm / (norm + others)] if others else []
    return max(shares)


def _norms(trainer: Trainer, batch: Batch, *, term: Term) -> dict[str, float]:
    """The norm of one term's gradient in each part of the model that it reaches."""
    model = trainer.model
    model.zero_grad(set_to_none=True)
    if (units := term.loss.units(batch)) > 0 and term.weight != 0:
        torch.manual_seed(0)
        for part in batch.split(trainer.request.experiment.compute.micro_batch or len(batch)):
            if (here := term.loss.units(part)) == 0:
                continue
            value = term.weight * here / units * term.loss(model(part), part)
            if value.requires_grad:
                trainer.accelerator.backward(value)
    squares: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and bool(parameter.grad.any()):
            part_name = name.split(".")[0]
            squares[part_name] = squares.get(part_name, 0.0) + float(parameter.grad.double().square().sum())
    model.zero_grad(set_to_none=True)
    return {part_name: sqrt(square) for part_name, square in squares.items() if square}


def _any_trains(module: torch.nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def terms_check(terms: list[TermReach]) -> ReceiptCheck:
    """Check 4, from every term of every stage."""
    problems = []
    for t in terms:
        where = f"stage {t.stage}: {t.term}"
        if not t.reached:
            problems.append(f"{where} sends no gradient anywhere")
        elif t.reached != t.declared:
            problems.append(f"{where} reaches {', '.join(t.reached)}, declared is {', '.join(t.declared)}")
        elif t.share < FLOOR:
            problems.append(f"{where} is negligible: {t.share:.2g} of the gradient where it weighs most")
    what = "; ".join(dict.fromkeys(f"{t.term} reaches {', '.join(t.reached)}" for t in terms))
    return ReceiptCheck(
        name="loss terms",
        status="failed" if problems else "passed",
        why="; ".join(problems) or what,
        evidence=TermsEvidence(floor=FLOOR, terms=tuple(terms)),
    )
