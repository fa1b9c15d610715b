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
from calot.run.device import make_accelerator
from calot.run.opened import OpenData
from calot.run.signals import Stopper
from calot.statistics.metrics import mean_ap
from calot.train import checkpoint
from calot.train.loop import EpochScores, Fit, Progress, fit_stage
from calot.train.optim import Schedule, build_adamw
from calot.train.stage import Stage
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
    with files.claimed(request):
        ui = replace(ui, log=request.folder / "train.log")
        data = OpenData.of(request.data, experiment=request.experiment, ui=ui, check=stopper.check)
        session = _Session.start(request, data=data, ui=ui, stopper=stopper)
        files.describe_run(request, data=data, model=session.model, accelerator=session.accelerator)
        session.train()
        return predict_run(request.folder, split="val", data=request.data, ui=ui, check=stopper.check)


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
    checkpoints: checkpoint.Checkpoints
    trained: set[torch.nn.Parameter]  # of the backbone, in this stage or an earlier one

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
            checkpoints=checkpoint.Checkpoints(
                request.folder / "checkpoints", every_s=experiment.compute.checkpoint_every_s, say=ui.say
            ),
            trained=set(),
        )

    @property
    def _published(self) -> bool:
        return self.request.experiment.backbone.weights is not None

    def train(self) -> None:
        """Every stage, each from the best of the one before."""
        found = self._found()
        stages = self.request.experiment.stages
        for earlier in stages[: self.progress.stage]:  # what they put into the backbone, the checkpoint's tensors need
            self._optimiser(earlier)
        while self.progress.stage < len(stages):
            stage = stages[self.progress.stage]
            torch.manual_seed(self.request.seed + self.progress.stage)  # what an adaptation draws hangs on no history
            optimiser = self._optimiser(stage)
            if found is not None:
                checkpoint.load_into(self.model, found.tensors, where=self.checkpoints.last)
                if found.optimiser is not None:
                    checkpoint.restore(optimiser, found.optimiser)
                found = None
            fit_stage(self._fit(stage, optimiser), self.progress)
            best = self.checkpoints.best_of(self.progress.to_dict())
            checkpoint.load_into(self.model, best.tensors, where=self.checkpoints.best)
            self.progress = Progress(stage=self.progress.stage + 1, rows=self.progress.rows)
            self._save(None, best=False)

    def _found(self) -> checkpoint.Checkpoint | None:
        """Where an earlier process left this run, said in a line; None for a new one."""
        if not self.request.resume:
            return None
        found = self.checkpoints.resume()
        if found is None:
            self.ui.say(f"{self.request.folder}: nothing saved yet to resume; starting at the first step")
            return None
        self.progress = at = Progress(**found.progress)
        done = at.stage == len(self.request.experiment.stages)
        place = f"stage {at.stage + 1}, epoch {at.epoch + 1}, step {at.batch + 1}"
        self.ui.say("training was complete" if done else f"resuming at {place}")
        return found

    def _optimiser(self, stage: Stage) -> torch.optim.Optimizer:
        groups = [
            *stage.adaptation.apply(self.model.backbone),
            ParameterGroup("pooling", tuple(self.model.pooling.parameters()), stage.lr),
            ParameterGroup("head", tuple(self.model.head.parameters()), stage.lr),
        ]
        self.trained.update(p for p in self.model.backbone.parameters() if p.requires_grad)
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
            due=self.checkpoints.due,
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
        common: dict[str, Any] = {
            "accelerator": self.accelerator,
            "batch_size": compute.evaluation_batch,
            "loss": loss,
            "on_batch": lambda count: self.stopper.check(),
        }
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
        """The best first, the last after it: a kill in between repeats an epoch, and so comes by the same best."""
        tensors = checkpoint.model_tensors(self.model, published=self._published, trained=self.trained)
        progress = self.progress.to_dict()
        if best:
            self.checkpoints.save_best(tensors=tensors, progress=progress)
        files.write_metrics(self.request.folder / "metrics.csv", self.progress.rows)
        self.checkpoints.save_last(tensors=tensors, optimiser=optimiser, progress=progress)


def _require_positives(table: ClipTable) -> None:
    if not table.majority.any():
        raise CalotError(
            f"split {table.split} of this data set has no positive label: no epoch could be selected on it"
        )


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
    check: Callable[[], None] | None = None,
) -> Path:
    """Score a split with a run's best weights; writes `predictions/<split>.parquet` (or `out`) and returns the folder.

    `on_open` hears the manifest hash before the first clip is scored; `check` is called after each batch and may raise.
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
            if check is not None:
                check()

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
