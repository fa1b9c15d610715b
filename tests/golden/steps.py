"""The one module here that knows calot's inside: a shipped experiment's first steps, as plain JSON values. To port it
after a change of names, change its imports and nothing that it records.

What runs is the shipped line: `Trainer.start` on the real store and masks, `fit_stage` with the real sampler, loader,
preparation, dropout seeds, schedule, gradient clipping and AdamW, `score` for the logits. Changed are the data (8 clips
a split), the sizes in `CHANGES`, the steps a stage makes, and the arithmetic: float64 from the normalised pixels on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import peft
import torch
import transformers
from torch import Tensor

from calot.data.clips import ClipTable
from calot.data.dataset import EpochIndices
from calot.evaluation import predict
from calot.experiment import scaled
from calot.experiments import find
from calot.phantom import PhantomSpec, generate
from calot.progress import Ui
from calot.run.build import parameter_counts
from calot.run.data import OpenData
from calot.run.request import Request
from calot.run.signals import Stopper
from calot.run.trainer import Trainer
from calot.train.loop import Fit, fit_stage
from calot.train.objective import EpochScores
from calot.train.progress import Progress
from calot.types import Batch

PHANTOM = PhantomSpec(
    videos=6, seed=3, mean_frames=30.0, min_frames=24, max_frames=36, mask_share=0.6, split_shares=(0.5, 0.3, 0.2)
)
CLIPS, STEPS, SEED = 8, 3, 0

#: Tiny scale, smaller still: an epoch is one step over all clips (so that terms of a later epoch have their turn), cut
#: unevenly into micro-batches.
CHANGES = {"size": 32, "micro_batch": 5}


def make_phantom(out: Path) -> Path:
    """The phantom all are held on. OpenCV's faster kernels round as the processor has it; its plain ones are alike."""
    was, was_ipp = cv2.useOptimized(), cv2.ipp.useIPP()
    cv2.setUseOptimized(False)
    cv2.ipp.setUseIPP(False)
    try:
        generate(out, PHANTOM)
    finally:
        cv2.setUseOptimized(was)
        cv2.ipp.setUseIPP(was_ipp)
    return out


def made_with() -> str:
    """The libraries whose change may change a draw."""
    return ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, transformers, peft, np))


def fingerprint(name: str) -> str:
    """That of the experiment as it ships, at full scale."""
    return find(name).experiment.fingerprint()


def record(name: str, *, phantom: Path) -> dict[str, Any]:
    """Everything that is held of one experiment."""
    trainer = _session(name, phantom=phantom)
    clips = {split: _described(_every(getattr(trainer, f"{split}_set"))) for split in ("train", "val")}
    stages = [_stage(trainer, number) for number in range(len(trainer.request.experiment.stages))]
    return {"parameters": parameter_counts(find(name).experiment), "clips": clips, "stages": stages}


class _FewClips(OpenData):
    def clips(self, split: str, *, training: bool) -> ClipTable:
        """Half are the clips with the most criteria met, half are spread over the others."""
        table = super().clips(split, training=training)
        order = np.argsort(-table.majority.sum(axis=1), kind="stable")
        half = CLIPS // 2
        spread = np.linspace(half, len(order) - 1, half).round().astype(np.int64)
        return table.select(np.sort(order[[*range(half), *spread]]))


def _session(name: str, *, phantom: Path) -> Trainer:
    found = find(name)
    tiny = scaled(found.experiment, "tiny")
    stages = [replace(stage, batch=CLIPS) for stage in tiny.stages]
    experiment = replace(
        tiny,
        backbone=_smaller(tiny.backbone),
        train=stages[0],
        then=tuple(stages[1:]),
        compute=replace(tiny.compute, micro_batch=CHANGES["micro_batch"], device="cpu", precision="fp32"),
    )
    request = Request(
        found=found, experiment=experiment, scale="tiny", data=phantom, folder=phantom / "unused", seed=SEED
    )
    data = _FewClips.of(phantom, experiment=experiment, ui=Ui())
    return Trainer.start(request, data=data, ui=Ui(), stopper=Stopper())


def _smaller(backbone: Any) -> Any:
    """The backbone at the size of `CHANGES`, windows with it, and with random weights: calot's own may change."""
    windows, window = getattr(backbone, "windows", None), getattr(backbone, "window", None)
    changed = {"windows": replace(windows, size=2)} if windows else {"window": 2} if window else {}
    return replace(backbone, size=CHANGES["size"], weights=None, **changed)


def _stage(trainer: Trainer, number: int) -> dict[str, Any]:
    """One stage: logits, steps, logits. A stage begins where the one before ended."""
    trainer.progress = Progress(stage=number)
    stage = trainer.request.experiment.stages[number]
    fit = trainer.fit(stage)
    weights = {} if number else {"weights": _weights(trainer.model)}
    trainer.model.double()  # weights are drawn in float32 first, as a run's are
    watch = _Watch(fit)
    watched = replace(
        fit,
        stage=replace(stage, epochs=STEPS, patience=STEPS),
        data=watch,
        keeper=watch,
    )
    before = _logits(trainer)
    with watch.clipping(), patch.object(type(fit.objective), "evaluate", lambda *_, **__: EpochScores(0.0, {})):
        fit_stage(watched, trainer.progress)
    return {**weights, "logits before": before, "steps": watch.steps, "logits after": _logits(trainer)}


@dataclass
class _Watch:
    """Notes what each step was made of: its batch, gradient, rates and terms."""

    fit: Fit

    def __post_init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.passes = self.fit.data.passes

    def batches(self, *, epoch: int, start: int) -> Iterator[Batch]:
        return map(self.prepared, self.fit.data.batches(epoch=epoch, start=start))

    def save(self, *, best: bool) -> None:
        """Nothing is kept."""

    def due(self) -> bool:
        return False

    def stop(self) -> bool:
        return False

    def prepared(self, batch: Batch) -> Batch:
        self.steps.append({"batch": _described(batch)})
        masks = batch.masks and replace(batch.masks, weight=batch.masks.weight.double())
        return replace(batch, labels=batch.labels.double(), masks=masks)

    def clipping(self) -> AbstractContextManager[Any]:
        real = self.fit.accelerator.clip_grad_norm_

        def clip(*args: Any) -> Any:
            self.steps[-1]["gradient"] = self._norms()
            norm = real(*args)
            self.steps[-1]["clipped"] = self._norms()["total"]
            return norm

        return patch.object(self.fit.accelerator, "clip_grad_norm_", clip)

    def report(self, progress: Progress, loss: float) -> None:
        terms = {name: total for name, (total, _) in progress.terms.items()}
        rates = {g["name"]: g["lr"] for g in self.fit.optimiser.param_groups}
        self.steps[-1] |= {"loss": loss, "terms": terms, "rates": rates}

    def _norms(self) -> dict[str, float]:
        squares = {
            g["name"]: sum(float(p.grad.square().sum()) for p in g["params"] if p.grad is not None)
            for g in self.fit.optimiser.param_groups
        }
        return {"total": sum(squares.values()) ** 0.5, **{name: s**0.5 for name, s in squares.items()}}


def _logits(trainer: Trainer) -> list[list[float]]:
    """Of the validation clips, before they are narrowed to float32."""
    seen: list[Tensor] = []
    predict.score(
        trainer.model,
        dataset=trainer.val_set,
        accelerator=trainer.accelerator,
        batch_size=CLIPS,
        observers=(lambda outputs, batch: seen.append(outputs.logits),),
    )
    return torch.cat(seen).tolist()


def _every(dataset: Any) -> Batch:
    return dataset[EpochIndices(epoch=0, indices=tuple(range(len(dataset))))]


def _described(batch: Batch) -> dict[str, Any]:
    """A batch's digest, and what tells a changed batch from one that was rounded otherwise: each clip's projection."""
    masks = [] if batch.masks is None else [t for _, t in sorted(vars(batch.masks).items())]
    found = {
        "digest": _digest([batch.video, batch.labels, *masks]),
        "pixels": _projections(batch.video),
        "labels": batch.labels.double().tolist(),
    }
    if batch.masks is not None:
        found |= {"masks": _projections(batch.masks.values.clamp(max=5)), "weight": batch.masks.weight.tolist()}
    return found


def _weights(model: torch.nn.Module) -> dict[str, Any]:
    """A model's weights as they were drawn; the order of its modules does not matter."""
    every = list(model.parameters())
    flat = torch.cat([p.detach().flatten().double() for p in every])
    return {
        "digest": hashlib.sha256("".join(sorted(_digest([p.detach()]) for p in every)).encode()).hexdigest()[:16],
        "count": len(flat),
        "norm": float(flat.norm()),
        "absolute": float(flat.abs().sum()),
    }


def _projections(images: Tensor) -> list[float]:
    """Of each clip one random projection, which moves by 1 where independent differences have a deviation of 1."""
    flat = images.flatten(1).double()
    signs = torch.randint(0, 2, (flat.shape[1],), generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    return (flat @ signs / flat.shape[1] ** 0.5).tolist()


def _digest(tensors: Iterable[Tensor]) -> str:
    """The first digits of a SHA-256."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
