"""A run in progress: model, data, progress and checkpoints, held together for the loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from calot.data.dataset import ClipDataset, batches, uploaded
from calot.data.preparation import Preparation, Prepared, Watch
from calot.errors import CalotError
from calot.evaluation.passes import Passes
from calot.models.adaptation import ParameterGroup
from calot.models.classifier import Classifier
from calot.out_of_memory import ClipsAtATime, while_scoring
from calot.processes import ALONE, Processes
from calot.progress import Ui
from calot.provenance.checkpoint_files import STATE
from calot.provenance.custody import Identity
from calot.run import folder as run_folder
from calot.run.apart import require_apart
from calot.run.build import build_classifier
from calot.run.data import OpenData
from calot.run.device import fused_step, make_accelerator, placed
from calot.run.features import StageFeatures, cached, stage_features
from calot.run.keeping import StageData, StageKeeper
from calot.run.request import Request
from calot.run.signals import Stopper
from calot.tracking.trackers import Trackers
from calot.train import checkpoint
from calot.train.loop import Fit, fit_stage
from calot.train.objective import Objective, model_tensors_alone, own_tensors, with_own_tensors
from calot.train.observer import Observer
from calot.train.optim import Schedule, build_adamw
from calot.train.progress import Progress
from calot.train.stage import Stage
from calot.types import Batch
from calot.wall import spent_on


@dataclass
class Trainer:
    """A run in progress. Everything here is rebuilt from the request on `--resume`, then restored to where it was."""

    request: Request
    ui: Ui
    stopper: Stopper
    accelerator: Accelerator
    model: Classifier  # without what may wrap it
    called: torch.nn.Module  # the model, or what wraps it: a training step calls this
    objective: Objective
    train_set: ClipDataset
    clean_set: ClipDataset
    val_set: ClipDataset
    progress: Progress
    checkpoints: checkpoint.Checkpoints
    trained: set[torch.nn.Parameter]  # of the backbone, in this stage or an earlier one
    observer: Observer = field(default_factory=Observer)
    processes: Processes = ALONE
    stopping: bool = False  # every process knows that a signal came to one
    caches: bool = False  # whether a frozen backbone's features may be cached
    features: StageFeatures | None = None  # those of the stage in training
    trackers: Trackers | None = None  # who is told of each new row of metrics.csv
    sample: NDArray[np.float32] | None = None  # logits of some val clips by the best epoch, once its receipt asked

    @cached_property
    def scoring(self) -> ClipsAtATime:
        """How many clips are scored or encoded at a time."""
        return while_scoring(self.ui.say)

    @classmethod
    def start(
        cls, request: Request, *, data: OpenData, ui: Ui, stopper: Stopper, processes: Processes = ALONE
    ) -> Trainer:
        experiment, seed = request.experiment, request.seed
        accelerator = make_accelerator(experiment.compute)
        torch.manual_seed(seed)
        model = build_classifier(experiment)
        processes.require_divisible(model)
        train_table = data.clips("train", training=True)
        val_table = data.clips("val", training=False)
        if experiment.objective.reads_labels:
            val_table.require_labels()
            val_table.require_positives()
        else:
            require_apart(data.manifest)
        train_masks = data.masks(train_table)
        return cls(
            request=request,
            ui=ui,
            stopper=stopper,
            accelerator=accelerator,
            model=model,
            called=placed(model, accelerator=accelerator),
            objective=experiment.objective.build(model=model, loss=experiment.loss),
            train_set=ClipDataset(train_table, data.store("train"), masks=train_masks),
            clean_set=ClipDataset(train_table.clean(), data.store("train"), masks=train_masks),
            val_set=ClipDataset(val_table, data.store("val"), masks=data.masks(val_table)),
            progress=Progress(),
            checkpoints=checkpoint.Checkpoints(
                request.folder / "checkpoints",
                every_s=experiment.compute.checkpoint_every_s,
                say=ui.say,
                run=Identity(fingerprint=experiment.fingerprint(), seed=seed, manifest=data.manifest.hash),
            ),
            trained=set(),
            processes=processes,
        )

    @property
    def _published(self) -> bool:
        return self.request.experiment.backbone.published

    @spent_on("training")
    def train(self) -> None:
        """Every stage, each from the best of the one before."""
        found = self.processes.in_turn(self._found)
        stages = self.request.experiment.stages
        for earlier in stages[: self.progress.stage]:  # what they put into the backbone, the checkpoint's tensors need
            self.optimiser(earlier)
        while self.progress.stage < len(stages):
            stage = stages[self.progress.stage]
            resumed, found = found, None
            fit = self.fit(stage, found=resumed)
            if resumed is None and self.progress.stage:
                self.progress.starts.append(self._start())
                self.save(None, best=False)  # not before its start is known: after a step it would be unknown
            fit_stage(fit, self.progress)
            self.features = None  # what follows may change the backbone
            self.processes.wait()  # until the best is on the disk
            best = self.checkpoints.best_of(self.progress.to_dict())
            self._put(best.tensors, where=self.checkpoints.best)
            after = self.progress
            self.progress = Progress(
                stage=after.stage + 1, rows=after.rows, starts=after.starts, observed=after.observed
            )
            if self.progress.stage == len(stages):
                self.save(None, best=False)
        if found is not None:  # already complete: the model is left as training left it, here too
            self._put(found.tensors, where=self.checkpoints.last)

    def _put(self, tensors: dict[str, torch.Tensor], *, where: Path) -> None:
        """Load a checkpoint's tensors into model and objective."""
        checkpoint.load_into(self.model, model_tensors_alone(tensors), where=where)
        mine, theirs = self.objective.state_dict().keys(), own_tensors(tensors)
        if unlike := sorted(mine ^ theirs.keys()):
            raise CalotError(f"{where}: {unlike[0]} is not both in the checkpoint and in the objective: another run's")
        self.objective.load_state_dict(theirs)

    def _start(self) -> dict[str, Any]:
        """For the receipt: whether every tensor of the best of the stage before stands in the model, bit for bit."""
        best = checkpoint.load(self.checkpoints.best)
        own = checkpoint.model_tensors(self.model, published=False)
        theirs = model_tensors_alone(best.tensors)
        apart = sorted(name for name, tensor in theirs.items() if not torch.equal(own[name], tensor))
        return {"stage": self.progress.stage + 1, "best epoch before": best.progress["epoch"], "apart": apart[:20]}

    def _found(self) -> checkpoint.Checkpoint | None:
        """Where an earlier process left this run, reported in a line; None for a new one."""
        if not self.request.resume:
            return None
        found = self.checkpoints.resume()
        if found is None:
            self.ui.say(f"{self.request.folder}: nothing saved yet to resume; starting at the first step")
            return None
        state = self.checkpoints.last / STATE
        self.progress = at = Progress.from_dict(found.progress, where=state)
        at.require_possible(
            stages=self.request.experiment.stages,
            clips=len(self.train_set),
            skipping=self.accelerator.scaler is not None,
            selected_by=self.objective.selection.column,
            where=state,
        )
        done = at.stage == len(self.request.experiment.stages)
        place = f"stage {at.stage + 1}, epoch {at.epoch + 1}, step {at.batch + 1}"
        self.ui.say("training was complete" if done else f"resuming at {place}")
        return found

    def groups(self, stage: Stage) -> list[ParameterGroup]:
        """What a stage trains; the backbone is prepared for it."""
        groups = [
            *stage.adapt(self.model.backbone),
            ParameterGroup("pooling", tuple(self.model.pooling.parameters()), stage.lr),
        ]
        heads = {name: tuple(self.model.get_submodule(name).parameters()) for name in self.model.heads}
        rates = {name: head.lr or stage.lr for name, head in self.model.heads.items()}
        return groups + [ParameterGroup(name, parameters, rates[name]) for name, parameters in heads.items()]

    def optimiser(self, stage: Stage) -> torch.optim.Optimizer:
        """The stage's optimiser. An adapter's random draws depend only on the seed and the stage, not on history."""
        torch.manual_seed(_stage_seed(self.request.seed, stage=self.progress.stage))
        groups = self.groups(stage)
        self.trained.update(p for p in self.model.backbone.parameters() if p.requires_grad)
        fused, decay = fused_step(self.accelerator), stage.weight_decay
        optimiser = build_adamw(groups, weight_decay=decay, decayed=stage.decayed, fused=fused)
        prepared: torch.optim.Optimizer = self.accelerator.prepare(optimiser)
        return prepared

    def fit(self, stage: Stage, *, found: checkpoint.Checkpoint | None = None) -> Fit:
        """All that the loop needs for one stage, from its first step or from a checkpoint found in it."""
        experiment = self.request.experiment
        optimiser = self.optimiser(stage)
        if found is not None:  # before features, which are of these weights
            self._put(found.tensors, where=self.checkpoints.last)
            if found.optimiser is not None:
                checkpoint.restore(optimiser, found.optimiser)
        schedule = stage_schedule(stage, clips=len(self.train_set))
        per_epoch = -(-len(self.train_set) // stage.batch)
        self.features = stage_features(self, stage) if self.caches else None
        reporter = run_folder.Reporter(self.ui, stage=stage, steps=per_epoch, selection=self.objective.selection)
        keeper = StageKeeper(self, optimiser, reporter)
        return Fit(
            model=self.model,
            called=self.called,
            stage=stage,
            objective=self.objective,
            optimiser=optimiser,
            schedule=schedule,
            accelerator=self.accelerator,
            seed=self.request.seed,
            micro_batch=experiment.compute.micro_batch,
            data=StageData(self, stage),
            keeper=keeper,
            observer=self.observer,
            keep_clips=keeper.clips,
            processes=self.processes,
            at_a_time=ClipsAtATime(say=self.ui.say),
        )

    def batches(self, stage: Stage, *, epoch: int, start: int) -> Iterator[Batch]:
        """An epoch's effective batches of a stage, prepared, from the `start`-th on."""
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
            frames=lambda n: self.features is None or self.observer.looks(progress=self.progress, number=n),
        )
        for number, (batch, on_device) in enumerate(uploaded(loaded, device=self.accelerator.device), start=start):
            watch = self.observer.loaded(batch, progress=self.progress, number=number)  # as it left the host
            ready = self.prepared(on_device, epoch=epoch, start=number * stage.batch, watch=watch).batch
            if self.features is not None:
                ready = self.features.with_tokens(ready, epoch=epoch, start=number * stage.batch)
            where = (self.request.seed, self.progress.stage, epoch, number * stage.batch)
            yield self.objective.prepared(ready, where=where)

    @cached_property
    def preparation(self) -> Preparation:
        """What is done to each effective batch; checked once, not in every step."""
        return self.request.experiment.preparation(seed=self.request.seed)

    def prepared(self, batch: Batch, *, epoch: int, start: int, watch: Watch | None = None) -> Prepared:
        """An effective batch as it is trained on in this stage; `start` is its first clip's place in the epoch."""
        return self.preparation(batch, stage=self.progress.stage, epoch=epoch, start=start, watch=watch)

    @property
    def passes(self) -> Passes:
        """The passes that an epoch is judged by."""
        compute = self.request.experiment.compute
        val, clean = self.val_set, self.clean_set
        if self.features is not None:
            self.features.require_current()
            val, clean = cached(val, self.features.val), cached(clean, self.features.train)
        return Passes(
            val=val,
            clean=clean,
            subset=compute.train_subset,
            accelerator=self.accelerator,
            batch_size=compute.evaluation_batch,
            workers=compute.workers,
            check=self.stopper.check,
            processes=self.processes,
            at_a_time=self.scoring,
        )

    def save(self, optimiser: torch.optim.Optimizer | None, *, best: bool) -> None:
        """The best first, the last after it: a kill in between repeats an epoch, and so reaches the same best.

        Of several processes the first one writes. The others wait for it before an end that all know of, so that no
        launcher ends it meanwhile; nowhere else, as a signal may have come to one alone.
        """
        if self.processes.first:
            self._write(optimiser, best=best)
        if self.stopping:
            self.processes.wait()

    @spent_on("saving")
    def _write(self, optimiser: torch.optim.Optimizer | None, *, best: bool) -> None:
        tensors = checkpoint.model_tensors(self.model, published=self._published, trained=self.trained)
        tensors = with_own_tensors(self.objective, tensors)
        progress = self.progress.to_dict()
        if best:
            self.checkpoints.save_best(tensors=tensors, progress=progress)
        run_folder.write_metrics(self.request.folder / "metrics.csv", self.progress.rows)
        self.checkpoints.save_last(tensors=tensors, optimiser=optimiser, progress=progress)
        if self.trackers is not None:
            self.trackers.rows_written()


def stage_schedule(stage: Stage, *, clips: int) -> Schedule:
    """A stage's learning rates over all the steps that `clips` training clips make."""
    per_epoch = -(-clips // stage.batch)
    warmup = round(stage.warmup * per_epoch)
    return Schedule(warmup_steps=warmup, total_steps=stage.epochs * per_epoch, floor=stage.min_lr)


def _stage_seed(seed: int, *, stage: int) -> int:
    return int(np.random.SeedSequence([seed, stage]).generate_state(1, np.uint64)[0] >> 1)
