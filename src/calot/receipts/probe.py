"""What an experiment does with a few fixed clips, as arrays that two experiments can be compared by."""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calot.data.clips import ClipTable
from calot.data.dataset import ClipDataset, EpochIndices
from calot.experiment import Experiment
from calot.progress import Ui
from calot.provenance.evidence import Change
from calot.run.feature_choice import unfit
from calot.run.request import Request
from calot.run.sample import SampledData, sampled_data
from calot.run.signals import Stopper
from calot.run.trainer import Trainer, stage_schedule
from calot.train.loop import Fit, accumulate, epochs_without_gain, optimise
from calot.train.optim import Schedule
from calot.train.progress import Progress
from calot.types import Batch

CLIPS = 8
_DRAWS = 6  # effective batches whose preparation is compared
STEPS = 3
_PIXELS = 100_000  # of a batch that are compared
STILL = 1e-5  # least movement of weights over a stage, relative to them: below it they stood still
FLOOR = 1e-3  # a change below this share of the whole is negligible

#: How far two arrays may be apart, relative to their size, before they count as different: rounding, and for optimiser
#: steps what Adam makes of rounding.
_TOLERANCE = {"steps": 1e-4}  # and this is the floor of optimiser steps, too: weight decay shows in them alone
_ROUNDING = 1e-6


@dataclass(frozen=True)
class ProbeData(SampledData):
    """The same few clips of every split, whatever the experiment; masked keyframes with positives are the best."""

    count: int = CLIPS

    def clips(self, split: str, *, training: bool) -> ClipTable:
        """Of each criterion its best positives, then clips without any, then the best that are left."""
        table = self.whole(split, training=training)
        part = self.manifest.split(split)
        masked = part.table["mask"].is_not_null().to_numpy()
        positive = table.majority > 0
        score = 2 * masked[table.row] + positive.any(axis=1) + part.keyframes[table.row]
        order = np.argsort(-score.astype(np.int64), kind="stable")
        few = self.count // 4
        kinds = [positive[order, k] for k in range(positive.shape[1])] + [~positive[order].any(axis=1)]
        preferred = np.concatenate([*(order[kind][:few] for kind in kinds), order])
        chosen = list(dict.fromkeys(preferred.tolist()))[: self.count]
        return self.few(table, np.sort(np.asarray(chosen)))


def acts(change: Change) -> bool:
    """Whether a change is more than negligible."""
    return change.share >= _TOLERANCE.get(change.name.split()[0], FLOOR)


def probe_data(root: Path, *, experiment: Experiment, ui: Ui) -> AbstractContextManager[ProbeData]:
    """Open a data folder for the probe's clips; what had to be decoded for them is gone on leaving."""
    return sampled_data(root, experiment=experiment, ui=ui, kind=ProbeData)


#: One reading of an experiment in parts by name: clips of a batch, tensors of a model. A part that one side lacks is
#: zero there, so that what is only there, and does nothing, changes nothing.
Parts = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Probe:
    """Readings by name; names begin with what they are: data, order, frames, labels, masks, loss, gradient, logits,
    steps, rates, weights; and opened, for loss, gradient and logits with what starts at zero let through."""

    readings: dict[str, Parts] = field(repr=False)

    def differing(self, other: Probe) -> list[str]:
        """Names under which the two differ by more than rounding."""
        names = dict.fromkeys([*self.readings, *other.readings])
        return [n for n in names if self.distance(other, n) > _TOLERANCE.get(n.split()[0], _ROUNDING)]

    def changes(self, other: Probe) -> tuple[Change, ...]:
        """What is not the same to the bit, and by what share of the whole."""
        names = dict.fromkeys([*self.readings, *other.readings])
        apart = {n: self.distance(other, n) for n in names}
        return tuple(Change(name=n, share=share) for n, share in apart.items() if share > 0)

    def _reading(self, name: str) -> Parts | None:
        """A reading; with nothing to open, what is read open is what is read anyway."""
        return self.readings.get(name, self.readings.get(name.removeprefix("opened ")))

    def distance(self, other: Probe, name: str) -> float:
        """How far apart one reading is, relative to the larger; 1 where only one has it or a part has another shape."""
        mine, theirs = self._reading(name), other._reading(name)
        if mine is None or theirs is None:
            return 1.0
        squares = [0.0, 0.0, 0.0]
        for part in mine.keys() | theirs.keys():
            a, b = mine.get(part), theirs.get(part)
            x, y = (np.zeros(1) if v is None else v for v in (a, b))
            if x.dtype.kind in "SU" or y.dtype.kind in "SU":
                if not np.array_equal(x, y):
                    return 1.0
                continue
            if a is not None and b is not None and x.shape != y.shape:
                return 1.0
            x, y = (np.zeros(z.shape) if v is None else v.astype(np.float64) for v, z in ((a, y), (b, x)))
            for place, value in enumerate((x - y, x, y)):
                squares[place] += float(np.square(value).sum())
        size = max(squares[1:])
        return float(np.sqrt(squares[0] / size)) if size else 0.0


def trainer_for(experiment: Experiment, *, request: Request, data: ProbeData) -> Trainer:
    """A fresh session of the same seed on the probe's clips; nothing of it is written."""
    asked = replace(request, experiment=experiment, resume=False)
    return Trainer.start(asked, data=data.of_experiment(experiment), ui=data.ui, stopper=Stopper())


def probe(experiment: Experiment, *, request: Request, data: ProbeData, short: bool = False) -> Probe:
    """Run an experiment on the probe's clips: its data, its batches, and of every stage loss, gradient and steps.

    A `short` one has no data, logits and steps, and batches of one frame per clip.
    """
    found: dict[str, Parts] = {}
    trainer = trainer_for(experiment, request=request, data=data)
    clips = len(data.of_experiment(experiment).whole("train", training=True))
    if not short:
        found["data"] = {"": _digest(_data_of(trainer))}
    order = experiment.sampler.order(trainer.train_set.table.labels, rng=np.random.default_rng([request.seed, 0]))
    found["order"] = {"": np.asarray(order)}
    for number, stage in enumerate(experiment.stages):
        trainer.progress = Progress(stage=number)
        fit, where = trainer.fit(stage), f"of stage {number + 1}"
        batches = _batches_of(one_frame(trainer).fit(stage) if short else fit)
        found |= {f"{kind} {where}": parts for kind, parts in batches.items()}
        found[f"rates {where}"] = _rates(trainer, fit, schedule=stage_schedule(stage, clips=clips))
        found[f"epochs {where}"] = {"": np.asarray([stage.epochs, stage.scored, epochs_without_gain(stage)])}
        found[f"weights {where}"] = _weights(fit, epochs=stage.epochs)
        found[f"terms {where}"] = {"": np.asarray([_active(fit, epoch=e) for e in range(stage.epochs)])}
        found |= _loss_and_gradient(trainer, fit, stage=number)
        with _opened(trainer) as opened:
            if opened:
                open_readings = _loss_and_gradient(trainer, fit, stage=number)
                open_readings |= {} if short else {f"logits {where}": {"": _logits(trainer, fit)}}
                found |= {f"opened {name}": parts for name, parts in open_readings.items()}
        if short:
            continue
        found[f"logits {where}"] = {"": _logits(trainer, fit)}
        before = {n: p.detach().clone() for n, p in _trained(trainer)}
        for step in range(STEPS):
            batch = trainer.prepared(clean_batch(trainer), epoch=_DRAWS, start=step * CLIPS).batch
            torch.manual_seed(step)
            optimise(with_every_term(fit), batch, progress=trainer.progress)
        moved = {n: p.detach() - before[n] for n, p in _trained(trainer)}
        found[f"steps {where}"] = _sketch(moved)
    return Probe(found)


def one_frame(trainer: Trainer) -> Trainer:
    """The same on clips of their last frame alone: what preparation does, it does alike to all of them."""
    table = trainer.train_set.table
    return replace(trainer, train_set=replace(trainer.train_set, table=replace(table, frames=table.frames[:, -1:])))


def _rates(trainer: Trainer, fit: Fit, *, schedule: Schedule) -> Parts:
    """Of each tensor that trains, its learning rate in every step of the stage."""
    names = {id(p): n for n, p in trainer.model.named_parameters()}
    steps = range(schedule.total_steps)
    return {
        names[id(p)]: np.asarray([schedule.lr(peak=group["peak_lr"], step=s) for s in steps])
        for group in fit.optimiser.param_groups
        for p in group["params"]
    }


def with_every_term(fit: Fit) -> Fit:
    """The same stage with every loss term acting from its first epoch on."""
    return replace(fit, objective=fit.objective.every_term())


def _active(fit: Fit, *, epoch: int) -> str:
    return " ".join(fit.objective.acting(epoch=epoch))


def _weights(fit: Fit, *, epochs: int) -> Parts:
    """Of each loss term, its weight in every epoch; zero before it acts."""
    found: Parts = {}
    for epoch in range(epochs):
        for name, weight in fit.objective.weights(epoch=epoch).items():
            found.setdefault(name, np.zeros(epochs))[epoch] = weight
    return found


def clean_batch(trainer: Trainer) -> Batch:
    """The probe's training clips as loaded, on the device."""
    return trainer.train_set[every_clip(trainer.train_set)].to(trainer.accelerator.device)


def with_frozen_tokens(trainer: Trainer, batch: Batch) -> Batch:
    """A batch with what the frozen part of its backbone gives, computed once for every step, as cached features are.

    The batch itself where the backbone trains from its lowest parts on, or what it gives cannot stand for its frames.
    """
    model, experiment = trainer.model, trainer.request.experiment
    first = model.backbone.first_trained
    if first in (-1, 0) or unfit(experiment, model, preparation=trainer.preparation) is not None:
        return batch
    model.eval()
    with torch.no_grad(), trainer.accelerator.autocast():
        tokens = model.backbone(batch.video) if first is None else model.backbone.below(batch.video, layer=first)
    return replace(batch, tokens=replace(tokens, values=tokens.values.float()))


def every_clip(dataset: ClipDataset) -> EpochIndices:
    """All clips of a small data set, as one request."""
    return EpochIndices(epoch=0, indices=tuple(range(len(dataset))))


def _trained(trainer: Trainer) -> list[tuple[str, torch.nn.Parameter]]:
    return [(n, p) for n, p in trainer.model.named_parameters() if p.requires_grad]


def _data_of(trainer: Trainer) -> Iterator[NDArray[Any]]:
    for dataset in (trainer.train_set, trainer.val_set):
        batch = dataset[every_clip(dataset)]
        yield batch.video.numpy()
        yield batch.labels.numpy()
        if batch.masks is not None:
            yield from (v.numpy() for v in vars(batch.masks).values())


def _batches_of(fit: Fit) -> dict[str, Parts]:
    """Frames (some pixels of each batch), labels and masks of a few epochs, as the loop gets them."""
    found: dict[str, Parts] = {"frames": {}, "labels": {}, "masks": {}}
    for epoch in range(_DRAWS):
        for number, batch in enumerate(fit.data.batches(epoch=epoch, start=0)):
            where = f"{epoch} {number}"
            pixels = batch.video.cpu().flatten()
            found["frames"][where] = pixels[:: max(1, len(pixels) // _PIXELS) | 1].numpy()
            found["labels"][where] = batch.labels.cpu().numpy()
            if batch.masks is not None:
                masks = vars(batch.masks).items()
                found["masks"] |= {f"{where} {name}": value.cpu().numpy() for name, value in masks}
    return found


def _loss_and_gradient(trainer: Trainer, fit: Fit, *, stage: int) -> dict[str, Parts]:
    """Loss terms and gradient of a prepared batch in training mode, in the first epoch and late."""
    found: dict[str, Parts] = {}
    batch = trainer.prepared(clean_batch(trainer), epoch=0, start=0).batch
    every = with_every_term(fit)
    moments = {"at first": fit} | ({"late": every} if _active(fit, epoch=0) != _active(every, epoch=0) else {})
    for when, at_that_time in moments.items():
        trainer.model.train()
        trainer.model.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        terms = accumulate(at_that_time, batch, progress=Progress(stage=stage))
        where = f"of stage {stage + 1} {when}"
        found[f"loss {where}"] = {name: np.asarray([v]) for name, v in terms.items() if v}  # of no weight: none
        found[f"gradient {where}"] = _sketch({n: p.grad for n, p in _trained(trainer)})
        trainer.model.zero_grad(set_to_none=True)
    return found


@contextlib.contextmanager
def _opened(trainer: Trainer) -> Iterator[bool]:
    """For a while, fresh parameters that start at zero hold other values, so that what they let through shows; gives
    whether there are any. Whether they leave zero in training, gradients and ablation say."""
    backbone = trainer.model.backbone
    fresh = set(backbone.fresh)
    closed = [(name, p) for name, p in backbone.named_parameters() if p in fresh and not p.any()]
    for name, parameter in closed:
        draw = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        parameter.data.copy_(torch.randn(parameter.shape, generator=draw))
    try:
        yield bool(closed)
    finally:
        for _, parameter in closed:
            parameter.data.zero_()


@torch.no_grad()
def _logits(trainer: Trainer, fit: Fit) -> NDArray[Any]:
    trainer.model.eval()
    batch = clean_batch(trainer)
    parts = batch.split(fit.micro_batch or len(batch))
    return torch.cat([trainer.model(p).logits for p in parts]).cpu().numpy()


def _sketch(tensors: Mapping[str, torch.Tensor | None]) -> Parts:
    """Of each tensor its norm and two random projections: small, and any change of direction shows."""
    rows = {}
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        flat = tensor.detach().cpu().double().flatten()
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        signs = torch.randint(0, 2, (2, len(flat)), generator=generator, dtype=torch.float64) * 2 - 1
        rows[name] = np.asarray([float(flat.norm()), *(signs @ flat).tolist()])
    return rows


def _digest(parts: Iterator[NDArray[Any]]) -> NDArray[Any]:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.dtype} {part.shape} ".encode() + np.ascontiguousarray(part).tobytes())
    return np.asarray([digest.hexdigest()])
