"""The straight line: an experiment, a data folder and a seed become a run's folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from calot.data.dataset import ClipDataset
from calot.evaluation.predict import predictions_table, score
from calot.evaluation.tta import require_changes, views_named
from calot.experiment import Experiment
from calot.models.adaptation import save_adapter
from calot.models.classifier import Classifier
from calot.out_of_memory import while_scoring
from calot.processes import ALONE, Processes
from calot.progress import Silent, Ui
from calot.provenance import custody
from calot.provenance.checkpoint_files import STATE
from calot.provenance.combination import Mean
from calot.provenance.combined_run import CombinedRun, require_place, write_combined
from calot.provenance.receipt import Receipt
from calot.receipts.receipt import observer_of, opening_receipt, with_training
from calot.run import claiming, experiment_file
from calot.run import folder as run_folder
from calot.run.apart import require_unseen
from calot.run.baselines import affordable_baselines, write_baselines
from calot.run.build import build_classifier
from calot.run.data import OpenData
from calot.run.device import make_accelerator, placed, require_one_process
from calot.run.environment import describe
from calot.run.read_back import best_logits
from calot.run.request import Request
from calot.run.signals import Stopper
from calot.run.trainer import Trainer
from calot.run.views import RunViews, views_folder
from calot.statistics.average import averaged
from calot.tracking.trackers import following
from calot.train import checkpoint
from calot.train.objective import model_tensors_alone
from calot.train.progress import Progress
from calot.wall import spent_on


def train_run(request: Request, *, ui: Ui, stopper: Stopper, processes: Processes = ALONE) -> Path:
    """Train, keep the best epoch, write its validation predictions (where labels trained it); returns the run's folder.

    Several `processes` share steps and passes; the first one alone writes, and makes the receipt.
    The predictions are those of the best checkpoint as it was read back, from frames: what the best epoch wrote into
    `epochs/` where a sample of val shows that it gives the same bits, a new pass over val where not (`best_logits`).
    Raises CalotError for bad input and non-finite numbers, Stopped when a signal ended it after saving.
    """
    if processes.count == 1:
        require_one_process()  # before anything is written: a refusal leaves no folder and no lock
    folder, experiment = request.folder, request.experiment
    with ExitStack() as claim:
        processes.once(lambda: claim.enter_context(claiming.claimed(request)))
        processes.once(lambda: custody.require_sealed(folder))  # a complete run that is asked to resume
        ui = replace(ui, log=folder / claiming.LOG) if processes.first else Silent()
        data = processes.in_turn(
            lambda: OpenData.of(request.data, experiment=experiment, ui=ui, check=stopper.check),
        )
        ui.say(str(data.understood()))
        trainer = processes.in_turn(
            lambda: Trainer.start(request, data=data, ui=ui, stopper=stopper, processes=processes)
        )
        trainer.caches = True
        receipt = processes.once(lambda: opening_receipt(request, data=data, ui=ui)) if request.receipt else None
        if receipt is not None:
            trainer.observer = observer_of(trainer)
        described = {"accelerator": trainer.accelerator, "read_from": trainer.model.backbone.read_from}
        processes.once(lambda: run_folder.describe_run(request, data=data, **described))
        followed = following(folder, services=request.log, home=request.results, ui=ui)
        trainer.trackers = processes.once(lambda: claim.enter_context(followed))
        with stopper.held():  # for the step under way, which is then saved
            trainer.train()
        processes.once(lambda: _write_trained(trainer, receipt))
        if not experiment.objective.reads_labels:
            ui.say("no predictions: this objective reads no labels, so nothing trained the criteria's head")
            return folder
        trained = (experiment, trainer.model, request.seed)  # training leaves the best epoch's weights in it
        return _predict(
            folder,
            trained,
            split="val",
            opened=data,
            ui=ui,
            out=None,
            check=stopper.check,
            processes=processes,
            known=lambda: best_logits(trainer),
        )


@spent_on("closing")
def _write_trained(trainer: Trainer, receipt: Receipt | None) -> None:
    """What training leaves beside its checkpoints, by one process: the adapter, the receipt."""
    folder = trainer.request.folder
    if getattr(trainer.model.backbone, "adapter", None) is not None:
        save_adapter(trainer.model.backbone, folder / "adapter")
    if receipt is not None:
        alone = replace(trainer, processes=ALONE)
        with_training(receipt, alone).write(folder)
        trainer.sample = alone.sample


def load_run(folder: Path) -> tuple[Experiment, Classifier, int]:
    """A finished run's experiment, its model with the best epoch's weights, and its seed."""
    experiment, seed = experiment_file.read_experiment(folder)
    custody.require_sealed(folder)
    best = checkpoint.load(folder / "checkpoints" / "best")
    if (own := custody.Identity.of_run(folder)) is not None:
        own.require(best.run, where=folder / "checkpoints" / "best")
    at = Progress.from_dict(best.progress, where=folder / "checkpoints" / "best" / STATE)
    model = build_classifier(experiment, weights=needs_published_weights(experiment, tensors=best.tensors))
    run_folder.require_own_weights(folder, read_from=model.backbone.read_from)
    for stage in experiment.stages[: at.stage + 1]:  # a stage may have added an adapter
        stage.adapt(model.backbone)
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
    opened = _opened(folder, run[0], data=data, split=split, ui=ui, out=out, check=check)
    return _predict(folder, run, split=split, opened=opened, ui=ui, out=out, on_open=on_open, check=check)


def _opened(
    folder: Path,
    experiment: Experiment,
    *,
    data: Path,
    split: str,
    ui: Ui,
    out: Path | None,
    check: Callable[[], None] | None = None,
) -> OpenData:
    """A data set that a run is to score; without `out` it must be the run's own, whose folder takes the result. No
    video of the split may have trained it."""
    opened = OpenData.of(data, experiment=experiment, ui=ui)
    ui.say(str(opened.understood()))
    if out is None:
        run_folder.require_own_data(folder, data=opened)
    require_unseen(folder, opened, split=split, check=check)
    return opened


@spent_on("evaluation")
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
    processes: Processes = ALONE,
    known: Callable[[], np.ndarray | None] = lambda: None,
) -> Path:
    """`known` gives the logits of this very pass, or None to have it made."""
    experiment, model, seed = run
    table = opened.clips(split, training=False)
    if on_open is not None:
        on_open(opened.manifest.hash)
    dataset = ClipDataset(table, opened.store(split))
    processes.once(lambda: run_folder.describe_first_data(folder, data=opened))
    logits = known()
    if logits is None:
        loaded = _Loaded.of(experiment, model, ui=ui, check=check)
        logits = loaded.logits(dataset, title=f"predict {split}", processes=processes)
    if not processes.first:
        return folder
    predictions = predictions_table(
        logits,
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


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """A run's model on its device, and who hears of its progress."""

    experiment: Experiment
    model: nn.Module
    accelerator: Accelerator
    ui: Ui
    check: Callable[[], None] | None

    @classmethod
    def of(cls, experiment: Experiment, model: Classifier, *, ui: Ui, check: Callable[[], None] | None) -> _Loaded:
        accelerator = make_accelerator(experiment.compute)
        prepared = placed(model, accelerator=accelerator)
        return cls(experiment=experiment, model=prepared, accelerator=accelerator, ui=ui, check=check)

    def logits(self, dataset: ClipDataset, *, title: str, processes: Processes = ALONE) -> np.ndarray:
        """One pass over the clips of a data set, in order."""
        with self.ui.task(title) as advance:
            done = 0

            def on_batch(count: int) -> None:
                nonlocal done
                done += count * processes.count  # about as many in each
                advance(min(done, len(dataset)), len(dataset))
                if self.check is not None:
                    self.check()

            scored = score(
                self.model,
                dataset=dataset,
                accelerator=self.accelerator,
                batch_size=self.experiment.compute.evaluation_batch,
                workers=self.experiment.compute.workers,
                on_batch=on_batch,
                processes=processes,
                at_a_time=while_scoring(self.ui.say),
            )
        return scored.logits

    def environment(self) -> dict[str, Any]:
        """What a run's environment.json says."""
        device, precision = self.accelerator.device, self.accelerator.mixed_precision
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        return describe(precision="fp32" if precision == "no" else precision, device=str(device), started=started)


def predict_views(
    folder: Path,
    *,
    tta: str,
    mean: Mean,
    split: str,
    data: Path,
    ui: Ui,
    out: Path | None = None,
    on_open: Callable[[str], None] | None = None,
    check: Callable[[], None] | None = None,
) -> Path:
    """Score several views of each clip of a split and average them; returns the path of the mean's table.

    It goes to `out`, or with the table of each view into a run's folder of its own beside the run's, which stays as it
    is. Nothing is written before every view is scored.
    """
    experiment, model, seed = load_run(folder)
    asked = RunViews.of(folder, views=views_named(tta, protocol=experiment.protocol), mean=mean)
    opened = _opened(folder, experiment, data=data, split=split, ui=ui, out=out, check=check)
    place = views_folder(folder, tta=tta, mean=mean)
    if out is None:
        require_place(place, combination=asked.combination, split=split)
    table = opened.clips(split, training=False)
    if on_open is not None:
        on_open(opened.manifest.hash)
    plain, *others = asked.clips(table, data=opened)
    changes = require_changes(others, plain=plain)
    ui.say("; ".join(changes) or "no view but the clips as they are")
    run_folder.describe_first_data(folder, data=opened)
    loaded, scored = _Loaded.of(experiment, model, ui=ui, check=check), {}
    for seen in (plain, *others):
        own, logits = asked.of_view(seen.view), loaded.logits(seen, title=f"predict {split}, {seen.view.name}")
        facts = {"fingerprint": own.fingerprint, "manifest_hash": opened.manifest.hash}
        scored[seen.view.name] = replace(predictions_table(logits, table=table, seed=seed, **facts), combination=own)
    average = averaged(list(scored.values()), combination=asked.combination, refusal="--tta refused")
    if out is not None:
        return average.write(out)
    made = CombinedRun(
        combination=asked.combination,
        runs=(folder,),
        experiment=asked.experiment(),
        environment=loaded.environment() | {"views": changes},
        table=average,
        views=scored,
    )
    return write_combined(place, made)


def clip_frames(folder: Path, *, split: str, clips: list[tuple[str, int]], ui: Ui) -> list[list[np.ndarray]]:
    """The frames (uint8 h w 3, oldest first, as they were filmed) of clips given by video and labelled frame."""
    experiment, _ = experiment_file.read_experiment(folder)
    data = OpenData.of(run_folder.data_root(folder), experiment=experiment, ui=ui)
    table, images = data.clips(split, training=False), data.manifest.split(split).table["image"]
    places = {key: i for i, key in enumerate(zip(table.videos.tolist(), table.frame_numbers.tolist(), strict=True))}
    rows = [table.frames[places[clip]].tolist() for clip in clips]
    return [data.folder.frames.pictures([images[row] for row in clip]) for clip in rows]
