"""The straight line: an experiment, a data folder and a seed become a run's folder."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from calot.data.dataset import ClipDataset
from calot.evaluation.predict import predictions_table, score
from calot.experiment import Experiment
from calot.models.adaptation import save_adapter
from calot.models.classifier import Classifier
from calot.progress import Ui
from calot.provenance import custody
from calot.provenance.checkpoint_files import STATE
from calot.receipts.receipt import opening_receipt, with_training
from calot.receipts.watching import RunObserver
from calot.run import claiming, experiment_file
from calot.run import folder as run_folder
from calot.run.baselines import affordable_baselines, write_baselines
from calot.run.build import build_classifier
from calot.run.data import OpenData
from calot.run.device import make_accelerator, require_one_process
from calot.run.request import Request
from calot.run.signals import Stopper
from calot.run.trainer import Trainer
from calot.train import checkpoint
from calot.train.objective import model_tensors_alone
from calot.train.progress import Progress


def train_run(request: Request, *, ui: Ui, stopper: Stopper) -> Path:
    """Train, keep the best epoch, write its validation predictions (where labels trained it); returns the run's folder.

    Raises CalotError for bad input and non-finite numbers, Stopped when a signal ended it after saving.
    """
    require_one_process()  # before anything is written: a refusal leaves no folder and no lock
    with claiming.claimed(request):
        custody.require_sealed(request.folder)  # a complete run that is asked to resume
        ui = replace(ui, log=request.folder / claiming.LOG)
        data = OpenData.of(request.data, experiment=request.experiment, ui=ui, check=stopper.check)
        ui.say(str(data.understood()))
        trainer = Trainer.start(request, data=data, ui=ui, stopper=stopper)
        receipt = opening_receipt(request, ui=ui) if request.receipt else None
        if receipt is not None:
            trainer.observer = RunObserver(request.experiment, trainer.train_set, trainer.val_set)
        run_folder.describe_run(request, data=data, accelerator=trainer.accelerator)
        with stopper.held():  # for the step under way, which is then saved
            trainer.train()
        if getattr(trainer.model.backbone, "adapter", None) is not None:
            save_adapter(trainer.model.backbone, request.folder / "adapter")
        if receipt is not None:
            with_training(receipt, trainer).write(request.folder)
        if not request.experiment.objective.reads_labels:
            ui.say("no predictions: this objective reads no labels, so nothing trained the criteria's head")
            return request.folder
        trained = (request.experiment, trainer.model, request.seed)  # training leaves the best epoch's weights in it
        return _predict(request.folder, trained, split="val", opened=data, ui=ui, out=None, check=stopper.check)


def load_run(folder: Path) -> tuple[Experiment, Classifier, int]:
    """A finished run's experiment, its model with the best epoch's weights, and its seed."""
    experiment, seed = experiment_file.read_experiment(folder)
    custody.require_sealed(folder)
    best = checkpoint.load(folder / "checkpoints" / "best")
    if (own := custody.Identity.of_run(folder)) is not None:
        own.require(best.run, where=folder / "checkpoints" / "best")
    at = Progress.from_dict(best.progress, where=folder / "checkpoints" / "best" / STATE)
    model = build_classifier(experiment, weights=needs_published_weights(experiment, tensors=best.tensors))
    for stage in experiment.stages[: at.stage + 1]:  # a stage may have added an adapter
        stage.adaptation.apply(model.backbone)
    checkpoint.load_into(model, model_tensors_alone(best.tensors), where=folder / "checkpoints" / "best")
    return experiment, model, seed


def needs_published_weights(experiment: Experiment, *, tensors: Container[str]) -> bool:
    """Whether a checkpoint leaves some of the backbone to its published weights."""
    if experiment.backbone.weights is None:
        return False
    with torch.device("meta"):
        names = build_classifier(experiment, weights=False).state_dict()
    return any(k.startswith("backbone.") and k not in tensors for k in names)


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

    `on_open` gets the manifest hash before the first clip is scored; `check` is called after each batch and may raise.
    """
    run = load_run(folder)
    opened = OpenData.of(data, experiment=run[0], ui=ui)
    ui.say(str(opened.understood()))
    if out is None:
        run_folder.require_own_data(folder, data=opened)
    return _predict(folder, run, split=split, opened=opened, ui=ui, out=out, on_open=on_open, check=check)


def _predict(
    folder: Path,
    run: tuple[Experiment, Classifier, int],
    *,
    split: str,
    opened: OpenData,
    ui: Ui,
    out: Path | None,
    on_open: Callable[[str], None] | None = None,
    check: Callable[[], None] | None = None,
) -> Path:
    experiment, model, seed = run
    table = opened.clips(split, training=False)
    if on_open is not None:
        on_open(opened.manifest.hash)
    dataset = ClipDataset(table, opened.store(split))
    run_folder.describe_first_data(folder, data=opened)
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
            workers=experiment.compute.workers,
            on_batch=on_batch,
        )
    predictions = predictions_table(
        scored.logits,
        table=table,
        seed=seed,
        fingerprint=experiment_file.read_fingerprint(folder),
        manifest_hash=opened.manifest.hash,
    )
    if out is not None:
        predictions.write(out)
        return folder
    baselines = affordable_baselines(folder, data=opened, split=split, ui=ui)
    with custody.resealed(folder):
        predictions.write(folder / "predictions" / f"{split}.parquet")
        write_baselines(folder, made=baselines)
    return folder


def clip_frames(folder: Path, *, split: str, clips: list[tuple[str, int]], ui: Ui) -> list[list[np.ndarray]]:
    """The frames (uint8 h w 3, oldest first, as they were filmed) of clips given by video and labelled frame."""
    experiment, _ = experiment_file.read_experiment(folder)
    data = OpenData.of(Path(run_folder.read_data(folder)["root"]), experiment=experiment, ui=ui)
    table, images = data.clips(split, training=False), data.manifest.split(split).table["image"]
    places = {key: i for i, key in enumerate(zip(table.videos.tolist(), table.frame_numbers.tolist(), strict=True))}
    rows = [table.frames[places[clip]].tolist() for clip in clips]
    return [data.folder.frames.pictures([images[row] for row in clip]) for clip in rows]
