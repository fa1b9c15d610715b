"""What an experiment does with a few fixed clips, as arrays that two experiments can be compared by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
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
from calot.run.request import Request
from calot.run.sample import SampledData, sampled_data
from calot.run.signals import Stopper
from calot.run.trainer import Trainer, stage_schedule
from calot.train.loop import Fit, accumulate, epochs_without_gain, optimise
from calot.train.progress import Progress
from calot.types import Batch

CLIPS = 8
_DRAWS = 6  # effective batches whose preparation is compared
STEPS = 3
FLOOR = 1e-3  # a change below this share of the whole is negligible

#: How far two arrays may be apart, relative to their size, before they count as different: rounding, and for optimiser
#: steps what Adam makes of rounding.
_TOLERANCE = {"steps": 1e-4}
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
        return table.select(np.sort(np.asarray(chosen)))


def probe_data(root: Path, *, experiment: Experiment, ui: Ui) -> AbstractContextManager[ProbeData]:
    """Open a data folder for the probe's clips; what had to be decoded for them is gone on leaving."""
    return sampled_data(root, experiment=experiment, ui=ui, kind=ProbeData)


@dataclass(frozen=True)
class Probe:
    """Arrays by name; names begin with what they are: data, order, batches, loss, gradient, logits, steps, schedule."""

    arrays: dict[str, NDArray[Any]] = field(repr=False)

    def differing(self, other: Probe) -> list[str]:
        """Names under which the two differ by more than rounding."""
        names = dict.fromkeys([*self.arrays, *other.arrays])
        return [n for n in names if self.distance(other, n) > _TOLERANCE.get(n.split()[0], _ROUNDING)]

    def changes(self, other: Probe) -> tuple[Change, ...]:
        """What differs, and by what share of the whole."""
        return tuple(Change(name=n, share=self.distance(other, n)) for n in self.differing(other))

    def distance(self, other: Probe, name: str) -> float:
        """How far apart one array is, relative to the larger; 1 where only one has it or shapes differ."""
        a, b = self.arrays.get(name), other.arrays.get(name)
        if a is None or b is None or a.shape != b.shape:
            return 1.0
        if a.dtype.kind in "SU":
            return 0.0 if np.array_equal(a, b) else 1.0
        size = max(np.linalg.norm(a), np.linalg.norm(b))
        return float(np.linalg.norm(a - b) / size) if size else 0.0


def trainer_for(experiment: Experiment, *, request: Request, data: ProbeData) -> Trainer:
    """A fresh session of the same seed on the probe's clips; nothing of it is written."""
    own = replace(data, experiment=experiment, _stores={})
    asked = replace(request, experiment=experiment, resume=False)
    return Trainer.start(asked, data=own, ui=data.ui, stopper=Stopper())


def probe(experiment: Experiment, *, request: Request, data: ProbeData) -> Probe:
    """Run an experiment on the probe's clips: its data, its batches, and of every stage loss, gradient and steps."""
    arrays: dict[str, NDArray[Any]] = {}
    trainer = trainer_for(experiment, request=request, data=data)
    clips = len(replace(data, experiment=experiment).whole("train", training=True))
    arrays["data"] = _digest(_data_of(trainer))
    arrays["order"] = np.asarray(
        experiment.sampler.order(trainer.train_set.table.labels, rng=np.random.default_rng([request.seed, 0]))
    )
    for number, stage in enumerate(experiment.stages):
        trainer.progress = Progress(stage=number)
        fit = trainer.fit(stage)
        schedule = stage_schedule(stage, clips=clips)
        arrays[f"batches of stage {number + 1}"] = _digest(_batches_of(trainer))
        steps = range(schedule.total_steps)
        rates = [[schedule.lr(peak=g["peak_lr"], step=s) for g in fit.optimiser.param_groups] for s in steps]
        arrays[f"schedule of stage {number + 1}"] = np.asarray(rates)
        arrays[f"epochs of stage {number + 1}"] = np.asarray([stage.epochs, epochs_without_gain(stage)])
        arrays[f"terms of stage {number + 1}"] = np.asarray([_active(fit, epoch=e) for e in range(stage.epochs)])
        arrays |= _loss_and_gradient(trainer, fit, stage=number)
        arrays[f"logits of stage {number + 1}"] = _logits(trainer, fit)
        before = [p.detach().clone() for p in _trained(trainer)]
        for step in range(STEPS):
            batch = trainer.prepared(clean_batch(trainer), epoch=_DRAWS, start=step * CLIPS).batch
            torch.manual_seed(step)
            optimise(with_every_term(fit), batch, progress=trainer.progress)
        moved = [p.detach() - b for p, b in zip(_trained(trainer), before, strict=True)]
        arrays[f"steps of stage {number + 1}"] = _sketch(moved)
    return Probe(arrays)


def with_every_term(fit: Fit) -> Fit:
    """The same stage with every loss term acting from its first epoch on."""
    return replace(fit, objective=fit.objective.every_term())


def _active(fit: Fit, *, epoch: int) -> str:
    return " ".join(fit.objective.acting(epoch=epoch))


def clean_batch(trainer: Trainer) -> Batch:
    """The probe's training clips as loaded, on the device."""
    return trainer.train_set[every_clip(trainer.train_set)].to(trainer.accelerator.device)


def every_clip(dataset: ClipDataset) -> EpochIndices:
    """All clips of a small data set, as one request."""
    return EpochIndices(epoch=0, indices=tuple(range(len(dataset))))


def _trained(trainer: Trainer) -> list[torch.Tensor]:
    return [p for p in trainer.model.parameters() if p.requires_grad]


def _data_of(trainer: Trainer) -> Iterator[NDArray[Any]]:
    for dataset in (trainer.train_set, trainer.val_set):
        batch = dataset[every_clip(dataset)]
        yield batch.video.numpy()
        yield batch.labels.numpy()
        if batch.masks is not None:
            yield from (v.numpy() for v in vars(batch.masks).values())


def _batches_of(trainer: Trainer) -> Iterator[NDArray[Any]]:
    for draw in range(_DRAWS):
        batch = trainer.prepared(clean_batch(trainer), epoch=draw, start=0).batch
        yield batch.video.cpu().numpy()
        yield batch.labels.cpu().numpy()
        if batch.masks is not None:
            yield from (v.cpu().numpy() for v in vars(batch.masks).values())


def _loss_and_gradient(trainer: Trainer, fit: Fit, *, stage: int) -> dict[str, NDArray[Any]]:
    """Loss terms and gradient of a prepared batch in training mode, in the first epoch and late."""
    found: dict[str, NDArray[Any]] = {}
    batch = trainer.prepared(clean_batch(trainer), epoch=0, start=0).batch
    every = with_every_term(fit)
    moments = {"at first": fit} | ({"late": every} if _active(fit, epoch=0) != _active(every, epoch=0) else {})
    for when, at_that_time in moments.items():
        trainer.model.train()
        trainer.model.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        terms = accumulate(at_that_time, batch, progress=Progress(stage=stage))
        where = f"of stage {stage + 1} {when}"
        found[f"loss {where}"] = np.asarray([v for v in terms.values() if v])  # a term of no weight is none
        found[f"gradient {where}"] = _sketch([p.grad for p in _trained(trainer)])
        trainer.model.zero_grad(set_to_none=True)
    return found


@torch.no_grad()
def _logits(trainer: Trainer, fit: Fit) -> NDArray[Any]:
    trainer.model.eval()
    batch = clean_batch(trainer)
    parts = batch.split(fit.micro_batch or len(batch))
    return torch.cat([trainer.model(p).logits for p in parts]).cpu().numpy()


def _sketch(tensors: Sequence[torch.Tensor | None]) -> NDArray[np.float64]:
    """Of each tensor its norm and two random projections: small, and any change of direction shows."""
    rows = []
    for number, tensor in enumerate(tensors):
        if tensor is None:
            rows.append([0.0, 0.0, 0.0])
            continue
        flat = tensor.detach().cpu().double().flatten()
        generator = torch.Generator().manual_seed(number)
        signs = torch.randint(0, 2, (2, len(flat)), generator=generator, dtype=torch.float64) * 2 - 1
        rows.append([float(flat.norm()), *(signs @ flat).tolist()])
    return np.asarray(rows)


def _digest(parts: Iterator[NDArray[Any]]) -> NDArray[Any]:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.dtype} {part.shape} ".encode() + np.ascontiguousarray(part).tobytes())
    return np.asarray([digest.hexdigest()])
