"""The straight line: an experiment, a data folder and a seed become a run's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from calot.criteria import CRITERIA
from calot.data.clips import ClipTable
from calot.data.dataset import ClipDataset, batches
from calot.data.preparation import Preparation
from calot.errors import CalotError
from calot.evaluation.predict import predictions_table, score
from calot.experiment import Experiment
from calot.experiments import Found
from calot.models.adaptation import ParameterGroup
from calot.models.classifier import Classifier
from calot.progress import Ui
from calot.run import files
from calot.run.opened import OpenData
from calot.run.signals import Stopper
from calot.statistics.metrics import mean_ap
from calot.train import checkpoint
from calot.train.loop import EpochScores, Fit, Progress, fit_stage
from calot.train.optim import Schedule, build_adamw
from calot.train.stage import Compute, Stage
from calot.types import Batch


@dataclass(frozen=True)
class Request:
    """One run asked for: what to train (already at its scale), on what, where to, and what to do with an old folder."""

    found: Found
    experiment: Experiment
    scale: str
    data: Path
    folder: Path
    seed: int
    resume: bool = False
    overwrite: bool = False


def parameter_counts(experiment: Experiment) -> dict[str, Any]:
    """Count parameters by group on the meta device: no weights, no memory."""
    with torch.device("meta"):
        model = build_classifier(experiment, weights=False)
    experiment.train.adaptation.apply(model.backbone)
    return model.parameter_counts()


def build_classifier(experiment: Experiment, *, weights: bool = True) -> Classifier:
    """The experiment's model; without `weights`, untrained ones, to load a checkpoint into."""
    spec = experiment.backbone
    backbone = spec.build() if weights else spec.build_without_weights()
    return Classifier(
        backbone=backbone,
        pooling=experiment.pooling.build(width=spec.width),
        head=experiment.head.build(width=spec.width),
    )


def train_run(request: Request, *, ui: Ui, stopper: Stopper) -> Path:
    """Train, keep the best epoch, write its validation predictions; returns the run's folder.

    Raises CalotError for bad input and non-finite numbers, Stopped when a signal ended it after saving.
    """
    files.claim(request)
    ui = replace(ui, log=request.folder / "train.log")
    data = OpenData.of(request.data, experiment=request.experiment, ui=ui)
    session = _Session.start(request, data=data, ui=ui, stopper=stopper)
    files.describe_run(request, data=data, model=session.model, accelerator=session.accelerator)
    session.train()
    return predict_run(request.folder, split="val", data=request.data, ui=ui)


@dataclass
class _Session:
    """A run in the making. Everything here is rebuilt from the request on `--resume`, then put where it stood."""

    request: Request
    ui: Ui
    stopper: Stopper
    accelerator: Accelerator
    model: Classifier
    train_set: ClipDataset
    clean_set: ClipDataset
    val_set: ClipDataset
    progress: Progress

    @classmethod
    def start(cls, request: Request, *, data: OpenData, ui: Ui, stopper: Stopper) -> _Session:
        experiment, seed = request.experiment, request.seed
        accelerator = make_accelerator(experiment.compute)
        torch.manual_seed(seed)
        model = build_classifier(experiment)
        train_table = data.clips("train", training=True)
        _require_positives(data.clips("val", training=False))
        return cls(
            request=request,
            ui=ui,
            stopper=stopper,
            accelerator=accelerator,
            model=accelerator.prepare_model(model),
            train_set=ClipDataset(train_table, data.store("train")),
            clean_set=ClipDataset(data.clips("train", training=False), data.store("train")),
            val_set=ClipDataset(data.clips("val", training=False), data.store("val")),
            progress=Progress(),
        )

    @property
    def _published(self) -> bool:
        return self.request.experiment.backbone.weights is not None

    @property
    def _last(self) -> Path:
        return self.request.folder / "checkpoints" / "last"

    @property
    def _best(self) -> Path:
        return self.request.folder / "checkpoints" / "best"

    def train(self) -> None:
        """Every stage, each from the best of the one before."""
        found = checkpoint.load(self._last) if self.request.resume and checkpoint.exists(self._last) else None
        if found is not None:
            self.progress = Progress(**found.progress)
            self.ui.say(f"resuming at stage {self.progress.stage + 1}, epoch {self.progress.epoch + 1}")
        stages = self.request.experiment.stages
        while self.progress.stage < len(stages):
            stage = stages[self.progress.stage]
            optimiser = self._optimiser(stage)
            if found is not None:
                checkpoint.load_into(self.model, found.tensors, where=self._last)
                if found.optimiser is not None:
                    optimiser.load_state_dict(found.optimiser)
                found = None
            fit_stage(self._fit(stage, optimiser), self.progress)
            best = checkpoint.load(self._best)
            checkpoint.load_into(self.model, best.tensors, where=self._best)
            self.progress = Progress(stage=self.progress.stage + 1, rows=self.progress.rows)
            self._save(None, best=False)

    def _optimiser(self, stage: Stage) -> torch.optim.Optimizer:
        groups = [
            *stage.adaptation.apply(self.model.backbone),
            ParameterGroup("pooling", tuple(self.model.pooling.parameters()), stage.lr),
            ParameterGroup("head", tuple(self.model.head.parameters()), stage.lr),
        ]
        prepared: torch.optim.Optimizer = self.accelerator.prepare(build_adamw(groups, weight_decay=stage.weight_decay))
        return prepared

    def _fit(self, stage: Stage, optimiser: torch.optim.Optimizer) -> Fit:
        experiment = self.request.experiment
        per_epoch = -(-len(self.train_set) // stage.batch)
        schedule = Schedule(
            warmup_steps=round(stage.warmup * per_epoch), total_steps=stage.epochs * per_epoch, floor=stage.min_lr
        )
        return Fit(
            model=self.model,
            stage=stage,
            loss=experiment.loss,
            optimiser=optimiser,
            schedule=schedule,
            accelerator=self.accelerator,
            seed=self.request.seed,
            micro_batch=experiment.compute.micro_batch,
            epoch_batches=lambda epoch, start: self._batches(stage, epoch=epoch, start=start),
            evaluate=self._evaluate,
            save=lambda best: self._save(optimiser, best=best),
            report=files.Reporter(self.ui, stage=stage, steps=per_epoch),
            stop=self.stopper.asked,
        )

    def _batches(self, stage: Stage, *, epoch: int, start: int) -> Iterator[Batch]:
        rng = np.random.default_rng([self.request.seed, self.progress.stage, epoch])
        order = self.request.experiment.sampler.order(self.train_set.table.labels, rng=rng)
        loaded = batches(
            self.train_set,
            order=order,
            epoch=epoch,
            batch_size=stage.batch,
            first=start,
            workers=self.request.experiment.compute.workers,
            pin=self.accelerator.device.type == "cuda",
        )
        prepare = Preparation(augment=self.request.experiment.augment, seed=self.request.seed)
        for number, batch in enumerate(loaded, start=start):
            on_device = batch.to(self.accelerator.device)
            place = number * stage.batch
            yield prepare(on_device, stage=self.progress.stage, epoch=epoch, start=place).batch

    def _evaluate(self) -> EpochScores:
        """Validation, and a clean pass in evaluation mode over a fixed subset of the training clips."""
        compute, loss = self.request.experiment.compute, self.request.experiment.loss
        common = {"accelerator": self.accelerator, "batch_size": compute.evaluation_batch, "loss": loss}
        count = min(compute.train_subset, len(self.clean_set))
        subset = np.sort(np.random.default_rng(0).permutation(len(self.clean_set))[:count])
        val = score(self.model, dataset=self.val_set, **common)
        clean = score(self.model, dataset=self.clean_set, indices=subset, **common)
        val_map = mean_ap(self.val_set.table.majority, val.logits)
        clean_map = mean_ap(self.clean_set.table.majority[subset], clean.logits)
        columns = {
            "train_clean_loss": clean.loss,
            "train_clean_map": clean_map.value,
            "val_loss": val.loss,
            "val_map": val_map.value,
            **{f"val_ap_{c}": val_map.ap[c] for c in CRITERIA},
        }
        assert val_map.over_defined is not None  # _require_positives saw to it
        return EpochScores(val_map.over_defined, columns)

    def _save(self, optimiser: torch.optim.Optimizer | None, *, best: bool) -> None:
        tensors = checkpoint.model_tensors(self.model, published=self._published)
        progress = self.progress.to_dict()
        if best:
            checkpoint.save(self._best, tensors=tensors, optimiser=None, progress=progress)
        files.write_metrics(self.request.folder / "metrics.csv", self.progress.rows)
        checkpoint.save(self._last, tensors=tensors, optimiser=optimiser, progress=progress)


def _require_positives(table: ClipTable) -> None:
    if not table.majority.any():
        raise CalotError(
            f"split {table.split} of this data set has no positive label: no epoch could be selected on it"
        )


def make_accelerator(compute: Compute) -> Accelerator:
    """The device and precision asked for. Raises CalotError where there is no GPU and one was asked for."""
    has_gpu = torch.cuda.is_available()
    if compute.device not in ("auto", "cpu", "cuda"):
        raise CalotError(f"compute.device={compute.device!r} is none of auto, cpu, cuda")
    if compute.device == "cuda" and not has_gpu:
        raise CalotError("compute.device=cuda, but torch sees no GPU here; use compute.device=cpu")
    if compute.threads is not None:
        torch.set_num_threads(compute.threads)
    gpu = has_gpu and compute.device != "cpu"
    precision = compute.precision
    if precision == "auto":
        precision = "fp32" if not gpu else "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    torch.use_deterministic_algorithms(True, warn_only=True)
    return Accelerator(cpu=not gpu, mixed_precision="no" if precision == "fp32" else precision)


def load_run(folder: Path) -> tuple[Experiment, Classifier, int]:
    """A finished run's experiment, its model with the best epoch's weights, and its seed."""
    experiment, seed = files.read_experiment(folder)
    best = checkpoint.load(folder / "checkpoints" / "best")
    model = build_classifier(experiment, weights=experiment.backbone.weights is not None)
    checkpoint.load_into(model, best.tensors, where=folder / "checkpoints" / "best")
    return experiment, model, seed


def predict_run(
    folder: Path,
    *,
    split: str,
    data: Path,
    ui: Ui,
    out: Path | None = None,
    on_open: Callable[[str], None] | None = None,
) -> Path:
    """Score a split with a run's best weights; writes `predictions/<split>.parquet` (or `out`) and returns the folder.

    `on_open` hears the manifest hash before the first clip is scored.
    """
    experiment, model, seed = load_run(folder)
    opened = OpenData.of(data, experiment=experiment, ui=ui)
    table = opened.clips(split, training=False)
    if on_open is not None:
        on_open(opened.manifest.hash)
    dataset = ClipDataset(table, opened.store(split))
    accelerator = make_accelerator(experiment.compute)
    with ui.task(f"predict {split}") as advance:
        done = 0

        def on_batch(count: int) -> None:
            nonlocal done
            done += count
            advance(done, len(dataset))

        scored = score(
            accelerator.prepare_model(model),
            dataset=dataset,
            accelerator=accelerator,
            batch_size=experiment.compute.evaluation_batch,
            on_batch=on_batch,
        )
    predictions = predictions_table(
        scored.logits, table=table, seed=seed, fingerprint=experiment.fingerprint(), manifest_hash=opened.manifest.hash
    )
    predictions.write(out or folder / "predictions" / f"{split}.parquet")
    return folder


def clip_frames(folder: Path, *, split: str, clips: list[tuple[str, int]], ui: Ui) -> list[list[np.ndarray]]:
    """The frames (uint8 h w 3, oldest first, as the model sees them) of clips given by video and labelled frame."""
    experiment, _ = files.read_experiment(folder)
    data = OpenData.of(Path(files.read_data(folder)["root"]), experiment=experiment, ui=ui)
    table, store = data.clips(split, training=False), data.store(split)
    places = {key: i for i, key in enumerate(zip(table.videos.tolist(), table.frame_numbers.tolist(), strict=True))}
    rows = [table.frames[places[clip]] for clip in clips]
    return [[frame.transpose(1, 2, 0) for frame in store.read(row)] for row in rows]
