"""Checks 2, 3 and 4: what trains is what was declared, every tensor of it learns, and every loss term reaches its
parts."""

from __future__ import annotations

from math import isfinite
from typing import Any

import torch

from calot.data.transforms import normalise
from calot.experiment import Experiment
from calot.provenance.receipt import ReceiptCheck
from calot.receipts.probe import CLIPS, LATE, STEPS, ProbeData, clean_batch, trainer_for
from calot.run.request import Request
from calot.run.trainer import Trainer
from calot.train.loop import Progress, optimise
from calot.train.stage import Stage

PARTS = ("backbone", "pooling", "head", "segmentation")


def training_checks(
    experiment: Experiment, *, request: Request, data: ProbeData
) -> tuple[ReceiptCheck, ReceiptCheck, ReceiptCheck]:
    """Run a few real steps of every stage on the probe's clips and look at every tensor."""
    trainer = trainer_for(experiment, request=request, data=data)
    counts: list[dict[str, Any]] = []
    gradients: list[dict[str, Any]] = []
    terms: list[dict[str, Any]] = []
    for number, stage in enumerate(experiment.stages):
        trainer.progress = Progress(stage=number, epoch=LATE)
        counts.append({"stage": number + 1, **_counts(trainer, stage)})
        terms += [{"stage": number + 1, **t} for t in _terms(trainer)]
        gradients.append({"stage": number + 1, **_steps(trainer, stage)})
    return _counted(counts), _learnt(gradients), _reached(terms)


def _counts(trainer: Trainer, stage: Stage) -> dict[str, Any]:
    groups = trainer.groups(stage)
    model = trainer.model
    observed: dict[str, int] = {}
    for name, parameter in model.backbone.named_parameters():
        if parameter.requires_grad:
            key = stage.adaptation.target_of(name)
            observed[key] = observed.get(key, 0) + parameter.numel()
    declared = dict(stage.adaptation.declared(model.backbone))
    for part in ("pooling", "head", "segmentation"):
        module = getattr(model, part)
        if module is not None:
            declared[part] = sum(p.numel() for p in module.parameters())
            observed[part] = sum(p.numel() for p in module.parameters() if p.requires_grad)
    listed = {id(p) for g in groups for p in g.parameters}
    training = {id(p): n for n, p in model.named_parameters() if p.requires_grad}
    names = {id(p): n for n, p in model.named_parameters()}
    return {
        "declared": declared,
        "observed": observed,
        "listed but frozen": sorted(names.get(i, "a tensor outside the model") for i in listed - set(training)),
        "training but not listed": sorted(training[i] for i in set(training) - listed),
    }


def _counted(counts: list[dict[str, Any]]) -> ReceiptCheck:
    problems = []
    for c in counts:
        for key in sorted(set(c["declared"]) | set(c["observed"])):
            declared, observed = c["declared"].get(key, 0), c["observed"].get(key, 0)
            if declared != observed:
                problems.append(f"stage {c['stage']}: {key} declares {declared:,} parameters, {observed:,} train")
        problems += [
            f"stage {c['stage']}: {what}: {c[what][0]} and {len(c[what]) - 1} more"
            for what in ("listed but frozen", "training but not listed")
            if c[what]
        ]
    trained = " then ".join(f"{sum(c['observed'].values()):,}" for c in counts)
    why = "; ".join(problems) or f"{trained} parameters train, as declared"
    return ReceiptCheck(
        name="trainable parameters", status="failed" if problems else "passed", why=why, evidence={"stages": counts}
    )


def _steps(trainer: Trainer, stage: Stage) -> dict[str, Any]:
    """A few steps: the largest gradient of each trainable tensor, and which frozen tensors moved."""
    fit = trainer.fit(stage)
    model = trainer.model
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    largest = {n: 0.0 for n, p in model.named_parameters() if p.requires_grad}
    handles = [
        p.register_post_accumulate_grad_hook(_keep_largest(largest, n, scaled=trainer.accelerator.scaler is not None))  # type: ignore[no-untyped-call]
        for n, p in model.named_parameters()
        if p.requires_grad
    ]
    model.train()
    for step in range(STEPS):
        batch = trainer.prepared(clean_batch(trainer), epoch=step, start=0).batch
        torch.manual_seed(step)
        optimise(fit, batch, progress=trainer.progress)
        trainer.progress.epoch = LATE
    for handle in handles:
        handle.remove()
    now = dict(model.named_parameters())
    return {
        "tensors": len(largest),
        "steps": STEPS,
        "clips": CLIPS,
        "without gradient": sorted(n for n, g in largest.items() if g == 0.0),
        "not finite": sorted(n for n, g in largest.items() if g != g or g == float("inf")),
        "frozen": len(frozen),
        "frozen that moved": sorted(n for n, before in frozen.items() if not torch.equal(before, now[n])),
    }


def _keep_largest(largest: dict[str, float], name: str, *, scaled: bool) -> Any:
    """Note a parameter's largest gradient; under fp16's loss scaler, which skips a step that overflows, the finite."""

    def hook(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        value = float(parameter.grad.abs().max())
        if scaled and not isfinite(value):
            return
        if not value <= largest[name]:  # also where it is not a number
            largest[name] = value

    return hook


def _learnt(gradients: list[dict[str, Any]]) -> ReceiptCheck:
    problems = [
        f"stage {g['stage']}: {what}: {g[what][0]}" + (f" and {len(g[what]) - 1} more" if len(g[what]) > 1 else "")
        for g in gradients
        for what in ("without gradient", "not finite", "frozen that moved")
        if g[what]
    ]
    counted = ", ".join(f"{g['tensors']} tensors learn, {g['frozen']} stay" for g in gradients)
    return ReceiptCheck(
        name="gradients",
        status="failed" if problems else "passed",
        why="; ".join(problems) or f"within {STEPS} steps {counted}",
        evidence={"stages": gradients},
    )


def _terms(trainer: Trainer) -> list[dict[str, Any]]:
    """Each loss term alone, on a prepared batch in training mode: the parts of the model its gradient reaches."""
    loss, model = trainer.request.experiment.loss, trainer.model
    found = []
    model.train()
    batch = trainer.prepared(clean_batch(trainer), epoch=0, start=0).batch
    trains = {part for part in PARTS if getattr(model, part) is not None and _any_trains(getattr(model, part))}
    for name, (weight, term) in loss.terms(epoch=LATE).items():
        model.zero_grad(set_to_none=True)
        units = term.units(batch)
        reached: set[str] = set()
        if units > 0 and weight != 0:
            torch.manual_seed(0)
            for part in batch.split(trainer.request.experiment.compute.micro_batch or len(batch)):
                if term.units(part) == 0:
                    continue
                value = weight * term(model(normalise(part.video), masks=part.masks), part)
                if value.requires_grad:
                    trainer.accelerator.backward(value)
            reached = {
                p.split(".")[0] for p, v in model.named_parameters() if v.grad is not None and bool(v.grad.any())
            }
        found.append(
            {"term": name, "units": units, "declared": sorted(term.reaches & trains), "reached": sorted(reached)}
        )
    model.zero_grad(set_to_none=True)
    return found


def _any_trains(module: torch.nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def _reached(terms: list[dict[str, Any]]) -> ReceiptCheck:
    problems = []
    for t in terms:
        where = f"stage {t['stage']}: {t['term']}"
        if not t["reached"]:
            problems.append(f"{where} sends no gradient anywhere")
        elif t["reached"] != t["declared"]:
            problems.append(f"{where} reaches {t['reached']}, declared is {t['declared']}")
    what = "; ".join(dict.fromkeys(f"{t['term']} reaches {', '.join(t['reached'])}" for t in terms))
    return ReceiptCheck(
        name="loss terms",
        status="failed" if problems else "passed",
        why="; ".join(problems) or what,
        evidence={"terms": terms},
    )
