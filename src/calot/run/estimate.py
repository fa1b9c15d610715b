"""`calot train --dry-run`: real steps on a few real clips, and from them the memory, disk, hours and cost of a run."""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calot.criteria import CRITERIA
from calot.data.clips import ClipTable
from calot.evaluation.predict import predictions_table, score
from calot.models.checkpoints import local_weights
from calot.progress import Ui
from calot.run.feature_choice import unfit
from calot.run.features import kind_wanted
from calot.run.request import Request
from calot.run.sample import SampledData, sampled_data
from calot.run.signals import Stopper
from calot.run.trainer import Trainer
from calot.train.loop import Fit, optimise
from calot.train.stage import Stage

#: A step or a pass that would take longer than this is measured on fewer clips.
_PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """Upper bounds: patience may end the stage sooner. `step_s` was measured on `clips_measured` of `batch` clips.

    `saved` is the share of the backbone whose features are read from a cache, made in `views` of each training clip; 0
    where every clip is computed in every epoch. `scored` epochs end with an evaluation. `step_s` and `evaluation_s` are
    without a cache.
    """

    trainable: int
    batch: int
    clips_measured: int
    steps_per_epoch: int
    epochs: int
    scored: int
    step_s: float
    evaluation_clips: int
    evaluation_s: float
    saved: float = 0.0
    views: int = 1

    @property
    def hours(self) -> float:
        return (self.epochs * self.steps_per_epoch * self.step_s + self.scored * self.evaluation_s) / 3600


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Bytes a run needs: frames not decoded yet (once per data set), checkpoints at their largest, predictions."""

    frame_store: int
    checkpoints: int
    predictions: int


@dataclass(frozen=True, kw_only=True)
class RunCost:
    """What one run would take. `memory_bytes` is the peak measured with `memory_clips` clips at a time."""

    experiment: str
    device: str
    precision: str
    weights: str
    parameters: int
    clips: dict[str, int]
    stages: tuple[StageCost, ...]
    memory: str
    memory_bytes: int
    memory_clips: int
    disk: Disk
    store_hours: float

    @property
    def hours(self) -> float:
        """Training, its evaluations, and the last pass over validation; plus the frame store, once."""
        last = self.stages[-1]
        return sum(s.hours for s in self.stages) + self.clips["val"] * last.evaluation_s / last.evaluation_clips / 3600

    def to_dict(self, *, runs: int = 1, price_per_hour: float | None = None) -> dict[str, Any]:
        """All of it as JSON, for `runs` runs (seeds) at a price in any currency."""
        data = asdict(self)
        for stage, entry in zip(self.stages, data["stages"], strict=True):
            entry["hours"] = stage.hours
        total = runs * self.hours + self.store_hours
        data |= {"hours_per_run": self.hours, "runs": runs, "hours": total}
        return data | {"cost": None if price_per_hour is None else total * price_per_hour}


def dry_run(request: Request, *, ui: Ui) -> RunCost:
    """Build the run, take real steps on real clips; only the cache of true masks, where some are used, stays.

    Published weights that are not on this machine are not fetched: random ones take the same time and memory.
    Raises CalotError for anything that would stop the run itself.
    """
    experiment = request.experiment
    wanted = experiment.backbone.weights
    here = wanted is None or local_weights(wanted) is not None
    if not here:
        request = replace(request, experiment=replace(experiment, backbone=replace(experiment.backbone, weights=None)))
    with sampled_data(request.data, experiment=experiment, ui=ui, kind=SampledData) as data:
        _reset_peak()
        trainer = Trainer.start(request, data=data, ui=ui, stopper=Stopper())
        clips = {split: len(data.whole(split, training=split == "train")) for split in ("train", "val")}
        stages, checkpoint = [], 0
        for number, stage in enumerate(experiment.stages):
            trainer.progress.stage = number
            cost, size = _measure(trainer, stage, clips=clips, published=experiment.backbone.published)
            stages.append(cost)
            checkpoint = max(checkpoint, size)
        kind, peak = _peak()
        accelerator = trainer.accelerator
        return RunCost(
            experiment=experiment.name,
            device=torch.cuda.get_device_name() if accelerator.device.type == "cuda" else "cpu",
            precision="fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision,
            weights="random"
            if wanted is None
            else wanted
            if here
            else f"{wanted}: not here, measured with random ones",
            parameters=sum(p.numel() for p in trainer.model.parameters()),
            clips=clips,
            stages=tuple(stages),
            memory=kind,
            memory_bytes=peak,
            memory_clips=max(s.clips_measured for s in stages),
            disk=_disk(data, checkpoint=checkpoint),
            store_hours=sum(s * len(data.manifest.split(split)) for split, s in data.seconds.items()) / 3600,
        )


def _measure(trainer: Trainer, stage: Stage, *, clips: dict[str, int], published: bool) -> tuple[StageCost, int]:
    """Time a stage's step and its evaluation; also the bytes of one whole checkpoint, optimiser and all."""
    compute = trainer.request.experiment.compute
    fit = trainer.fit(stage)
    optimiser = fit.optimiser
    trainer.model.train()
    batch = next(iter(fit.data.batches(epoch=0, start=0)))
    one = batch.split(1)[0]
    _step(trainer, fit, one)  # the first one warms up: kernels are chosen, the optimiser's state is made
    count = _affordable(_step(trainer, fit, one), wanted=min(compute.micro_batch or stage.batch, len(batch)))
    part = batch.split(count)[0]
    _step(trainer, fit, part)
    step_s = _step(trainer, fit, part) * stage.batch / count
    evaluated = clips["val"] + min(compute.train_subset, clips["train"])
    per_clip = _evaluation_s(trainer, wanted=compute.evaluation_batch)
    cost = StageCost(
        trainable=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        batch=stage.batch,
        clips_measured=count,
        steps_per_epoch=-(-clips["train"] // stage.batch),
        epochs=stage.epochs,
        scored=stage.scored,
        step_s=step_s,
        evaluation_clips=evaluated,
        evaluation_s=per_clip * evaluated,
        saved=_saved(trainer, stage, clips=clips),
        views=len(trainer.preparation.listed),
    )
    return cost, _checkpoint_bytes(trainer, optimiser, published=published)


def _saved(trainer: Trainer, stage: Stage, *, clips: dict[str, int]) -> float:
    """The share of the backbone that the run itself would compute once."""
    experiment, backbone = trainer.request.experiment, trainer.model.backbone
    first, depth = backbone.first_trained, len(backbone.layers)
    if experiment.compute.features == "off" or first in (-1, 0):
        return 0.0
    if unfit(experiment, trainer.model, preparation=trainer.preparation) is not None:
        return 0.0
    cached = kind_wanted(trainer, stage, clips=clips) is not None
    return (1.0 if first is None else first / depth) if cached else 0.0


def _affordable(seconds_a_clip: float, *, wanted: int) -> int:
    return max(1, min(wanted, int(_PATIENCE_S / seconds_a_clip)))


def _step(trainer: Trainer, fit: Fit, batch: Any) -> float:
    start = _now()
    optimise(fit, batch, progress=trainer.progress)
    return _now() - start


def _evaluation_s(trainer: Trainer, *, wanted: int) -> float:
    """Seconds per clip in evaluation mode."""

    def run(count: int) -> float:
        start = _now()
        score(
            trainer.model,
            dataset=trainer.val_set,
            accelerator=trainer.accelerator,
            batch_size=count,
            indices=np.arange(count),
            at_a_time=trainer.scoring,  # as in the run, which tells where memory runs out
        )
        return (_now() - start) / count

    run(1)
    return run(_affordable(run(1), wanted=min(wanted, len(trainer.val_set))))


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # only Linux can reset a process's peak
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> tuple[str, int]:
    """The most memory held since the reset: on the GPU where one is used, else by this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return "gpu", torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return "process", int(peak) * 1024
    import psutil

    memory = psutil.Process().memory_info()
    return "process", int(getattr(memory, "peak_wset", memory.rss))  # only Windows has a peak


def _checkpoint_bytes(trainer: Trainer, optimiser: torch.optim.Optimizer, *, published: bool) -> int:
    """All the kept checkpoints and the one being written: `last`, the one before it and the new one with the
    optimiser's state, `best` without. Frozen published weights are in none of them."""
    frozen = {n for n, p in trainer.model.named_parameters() if n.startswith("backbone.") and not p.requires_grad}
    kept = trainer.model.state_dict().items()
    model: int = sum(v.nbytes for k, v in kept if not (published and k in frozen))
    state = optimiser.state_dict()["state"].values()
    moments: int = sum(v.nbytes for entry in state for v in entry.values() if isinstance(v, torch.Tensor))
    return 3 * (model + moments) + model


def _disk(data: SampledData, *, checkpoint: int) -> Disk:
    frame = 3 * data.experiment.backbone.size**2
    missing = sum(len(data.manifest.split(split)) for split in data.seconds)
    return Disk(
        frame_store=frame * missing,
        checkpoints=checkpoint,
        predictions=_predictions_bytes(data.whole("val", training=False)),
    )


def _predictions_bytes(table: ClipTable) -> int:
    """A table of the real clips with random logits, written and measured."""
    logits = np.random.default_rng(0).normal(size=(len(table), len(CRITERIA))).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="calot-") as folder:
        path = Path(folder) / "predictions.parquet"
        predictions_table(logits, table=table, seed=0, fingerprint="0" * 64, manifest_hash="0" * 64).write(path)
        return path.stat().st_size
