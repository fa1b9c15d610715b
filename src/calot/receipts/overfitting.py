"""The first control: eight clips are learnt; where they are not, what a linear fit reaches and what looks alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calot.data.dataset import ClipDataset
from calot.models.classifier import Classifier
from calot.provenance.evidence import LookAlike, Overfit
from calot.receipts.probe import ProbeData, every_clip, trainer_for, with_frozen_tokens
from calot.run.request import Request
from calot.run.trainer import Trainer
from calot.statistics.metrics import mean_ap
from calot.train.loop import optimise
from calot.types import Batch, Tokens

#: Training mAP that counts as learnt.
LEARNT = 0.99

#: One rate suits an attentive probe, and leaves a linear head on averaged tokens, whose features hardly differ by clip,
#: far from what it can learn: rates are tried until one learns the clips.
_RATES, _STEPS = (2e-3, 2e-2, 2e-1), 150

#: Mean difference of two clips' pixels, as a share of the grey levels, below which they look alike.
_ALIKE = 0.02


@dataclass(frozen=True)
class _Attempt:
    map: float
    steps: int
    lr: float


def overfit(request: Request, *, data: ProbeData) -> Overfit:
    """Train on the probe's clips, rate by rate, until they are ranked without a mistake."""
    trainer = trainer_for(request.experiment, request=request, data=data)
    batch = _clips(trainer)
    attempts: list[_Attempt] = []
    for lr in _RATES:
        attempts.append(_attempt(lr, request=request, data=data))
        if attempts[-1].map >= LEARNT:
            break
    best = max(attempts, key=lambda a: a.map)
    return Overfit(
        clips=len(batch),
        map=best.map,
        steps=best.steps,
        lr=best.lr,
        reachable=reachable(trainer, batch),
        look_alike=look_alikes(trainer.train_set, batch),
        by_chance=left_to_chance(trainer.model, batch),
    )


def _attempt(lr: float, *, request: Request, data: ProbeData) -> _Attempt:
    stage = replace(request.experiment.train, lr=lr, min_lr=lr)
    trainer = trainer_for(replace(request.experiment, train=stage), request=request, data=data)
    fit = trainer.fit(stage)
    batch = with_frozen_tokens(trainer, _clips(trainer))
    score, steps = 0.0, 0
    while steps < _STEPS and score < LEARNT:
        for _ in range(10):
            trainer.model.train()
            optimise(fit, batch, progress=trainer.progress)
            steps += 1
        score = _score(trainer, batch)
    return _Attempt(score, steps, lr)


def _clips(trainer: Trainer) -> Batch:
    return trainer.train_set[every_clip(trainer.train_set)].to(trainer.accelerator.device)


@torch.no_grad()
def _score(trainer: Trainer, batch: Batch) -> float:
    """Macro mAP of a batch in evaluation mode; where hard masking needs masks, the true ones decide, as in training."""
    trainer.model.eval()
    trainer.model.true_masks = True
    logits = trainer.model(batch).logits.float().cpu().numpy()
    trainer.model.true_masks = False
    return _map(batch, logits)


def _map(batch: Batch, scores: NDArray[np.float32]) -> float:
    return mean_ap((batch.labels.cpu().numpy() >= 0.5).astype(np.int8), scores).over_defined or 0.0


@torch.no_grad()
def left_to_chance(model: Classifier, batch: Batch) -> tuple[str, ...]:
    """Parts of a model that draw while they train, seen by what they put out under two seeds.

    Only the first on a clip's way through the model is named: what follows it differs because of it.
    """
    one, other = (_outputs(model, batch, seed=seed) for seed in (1, 2))
    apart = tuple(name for name in model.parts if not torch.equal(one[name], other[name]))
    return apart[:1] if apart[:1] in (("backbone",), ("pooling",)) else apart


def _outputs(model: Classifier, batch: Batch, *, seed: int) -> dict[str, Tensor]:
    """What each part puts out in training mode; nothing where it was not asked."""
    seen = {name: torch.zeros(0) for name in model.parts}

    def keep(name: str, output: Tokens | Tensor) -> None:
        seen[name] = (output.values if isinstance(output, Tokens) else output).clone()

    hooks = [
        part.register_forward_hook(lambda module, given, output, name=name: keep(name, output))
        for name, part in model.parts.items()
    ]
    model.train()
    torch.manual_seed(seed)
    try:
        model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


@torch.no_grad()
def reachable(trainer: Trainer, batch: Batch) -> float:
    """Training mAP of a linear fit (least squares) on the untrained backbone's tokens, averaged over each clip.

    What it reaches, any head can learn; where it fails, the clips are the same to the backbone.
    """
    trainer.model.eval()
    features = trainer.model.encode(batch).values.mean(dim=1).double().cpu().numpy()
    spread = features.std(axis=0)
    # What differs by less than rounding in float32 is not a feature: a fit would read clips' numbers off it.
    features = (features - features.mean(axis=0))[:, spread > 1e-6 * np.abs(features).max()]
    size = max(1e-12, float(np.abs(features).max(initial=0.0)))
    features = np.column_stack([features / size, np.ones(len(features))])
    labels = batch.labels.cpu().numpy().astype(np.float64)
    weights, *_ = np.linalg.lstsq(features, labels, rcond=1e-5)
    return _map(batch, (features @ weights).astype(np.float32))


def look_alikes(dataset: ClipDataset, batch: Batch) -> tuple[LookAlike, ...]:
    """Pairs of clips with other labels whose pixels are nearly the same, the nearest first."""
    frames = batch.video.cpu().float() / 255
    labels = batch.labels.cpu() >= 0.5
    found = []
    for one, other in combinations(range(len(batch)), 2):
        apart = float((frames[one] - frames[other]).abs().mean())
        if apart < _ALIKE and not torch.equal(labels[one], labels[other]):
            found.append(LookAlike(one=_name(dataset, batch, one), other=_name(dataset, batch, other), apart=apart))
    return tuple(sorted(found, key=lambda pair: pair.apart))


def _name(dataset: ClipDataset, batch: Batch, place: int) -> str:
    clip = int(batch.index[place])
    return f"{dataset.table.videos[clip]}_{dataset.table.frame_numbers[clip]}"


def why_not_learnt(over: Overfit) -> str:
    """Why the clips were not learnt, and where to look for the cause; empty where they were, with nothing left to
    chance."""
    if over.by_chance:
        return (
            f"with every regulariser off, {', '.join(over.by_chance)} still draws at random while it trains: give its "
            "component a field called dropout (or ending so), or a without_dropout() that turns it off"
        )
    if over.map >= LEARNT:
        return ""
    said = f"after {over.steps} steps on {over.clips} clips, training mAP is {over.map:.2f}"
    said += f" at best (rate {over.lr:g}); a linear fit on their untrained tokens reaches {over.reachable:.2f}"
    if over.look_alike:
        pair, more = over.look_alike[0], len(over.look_alike) - 1
        others = f", and {more} more such pair{'s' if more > 1 else ''}" if more else ""
        return (
            f"{said}. The likely cause is in the data: {pair.one} and {pair.other} look alike "
            f"({100 * pair.apart:.1f} % of the grey levels apart) and have other labels{others}. "
            "Look at these frames and labels before the experiment"
        )
    if over.reachable < LEARNT:
        return f"{said}: the backbone tells these clips apart as little; look at their frames and at backbone.weights"
    return f"{said}: the cause is in the experiment's own parts"
