"""What a run is seen to do while it trains: measured where clips reach the model, in the real loop, epoch by epoch.

Up to eight batches of an epoch, at most one in twelve, are looked at; of each, two clips' frames. What is found goes
into the run's progress, so that a resumed run has the same readings. Nothing is drawn and no result is touched.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from calot.data.dataset import ClipDataset
from calot.data.preparation import Watch
from calot.experiment import Experiment
from calot.models.attention import AttentionReading, reading
from calot.models.attention_statistics import normalised_entropy
from calot.models.classifier import Classifier
from calot.provenance.evidence import ENTROPY
from calot.receipts import dropouts
from calot.receipts.meters.band import add
from calot.receipts.meters.frames import Meter
from calot.receipts.meters.preparation import meters
from calot.receipts.switches import switches
from calot.train.loop import Fit
from calot.train.observer import Observer
from calot.train.progress import Progress
from calot.types import Batch, Outputs

LOOKS = 8  # batches of an epoch that are looked at, at most
APART = 12  # batches from one look to the next, at least
SHARES_APART = 100  # batches from one measurement of each term's gradient to the next, which costs a step's time
FEW = 2  # clips of each whose frames are
SCORED = 4  # validation clips on which parts are switched off after each epoch
#: The reading of scores from cached tokens against those of the same clips' frames.
CACHED = "scoring: change of logits by cached tokens"
_SAMPLE = 4096  # weights of a tensor whose update is measured


@dataclass
class _Look:
    """What one batch showed on its way: as loaded, and as preparation left it."""

    clips: Tensor
    video: Tensor
    labels: Tensor


@dataclass
class RunObserver(Observer):
    """Looks on in one run: `train_set` are the clips that its batches are drawn from, `val_set` those it is judged
    by."""

    experiment: Experiment
    train_set: ClipDataset
    val_set: ClipDataset
    apart: int = APART
    few: int = FEW
    _look: _Look | None = None
    _open: Progress | None = None

    @cached_property
    def _meters(self) -> Mapping[str, Meter]:
        return meters(self.experiment)

    def loaded(self, batch: Batch, *, progress: Progress, number: int) -> Watch | None:
        seen = progress.observing
        positive = self.train_set.table.labels[batch.index.numpy()] >= 0.5
        for k in range(positive.shape[1] if self.experiment.objective.reads_labels else 0):
            add(seen, f"drawn: positive rate of C{k + 1}", positive[:, k].astype(float).tolist())
        self._look = None
        if not self.looks(progress=progress, number=number):
            return None
        self._look = look = _Look(batch.index[: self.few], batch.video[: self.few], batch.labels[: self.few])
        self._input(batch, seen)

        def watch(part: str, before: Batch, after: Batch) -> None:
            few = torch.arange(min(self.few, len(before)), device=before.video.device)
            sides = (before, after) if part == "mixing" else (before.of(few), after.of(few))
            for name, values in self._meters[part].read(*sides).items():
                add(seen, f"{part}: {name}", values)
            look.video, look.labels = after.video[: self.few].clone(), after.labels[: self.few].clone()

        return watch

    def looks(self, *, progress: Progress, number: int) -> bool:
        every = 1 if self.apart == 1 else max(self.apart, self._batches(progress) // LOOKS)
        return number % every == 0

    def _batches(self, progress: Progress) -> int:
        return -(-len(self.train_set) // self.experiment.stages[progress.stage].batch)

    def _input(self, batch: Batch, seen: dict[str, list[float]]) -> None:
        """Whether the loader gave the table's clips, and how many frames of each are distinct."""
        clips = batch.index[: self.few].numpy()
        table = self.train_set.table
        stored = torch.from_numpy(self.train_set.store.read(table.frames[clips[:1]]))
        add(seen, "input: a clip unlike its stored frames", [float(not torch.equal(stored[0], batch.video[0]))])
        labels = torch.from_numpy(table.labels[clips]).to(batch.labels)
        add(seen, "input: labels unlike the table's", (labels - batch.labels[: self.few]).abs().flatten().tolist())
        for i, clip in enumerate(clips.tolist()):
            video, wanted = batch.video[i], len(set(table.frames[clip].tolist()))
            changes = (video[1:] != video[:-1]).flatten(1).any(dim=1)
            add(seen, "input: distinct frames over those declared", [(1 + float(changes.sum())) / wanted])

    @contextlib.contextmanager
    def step(self, fit: Fit, batch: Batch, *, progress: Progress) -> Iterator[None]:
        """Rates in every step; in a batch that is looked at, what reached the model and what the step moved."""
        self._open, look = progress, self._look
        if look is None:
            yield
            self._rates(fit, progress)
            return
        seen, before = progress.observing, _samples(fit)
        first: list[Batch] = []

        def reached(module: nn.Module, given: tuple[Batch], found: Outputs) -> None:
            if not first and isinstance(given[0], Batch):  # an objective of a user's own may hand it something else
                first.append(given[0])
                if isinstance(found, Outputs) and found.kept is not None:
                    add(seen, "training: share of tokens masked", [1 - float(found.kept.float().mean())])

        handle = fit.model.register_forward_hook(reached)
        try:
            with dropouts.counted(_classifier(fit)) as dropped:
                yield
        finally:
            handle.remove()
        for name, values in dropped.items():
            add(seen, name, values)
        if first:
            self.arrived(first[0], progress)
        for name, (old, size) in before.items():
            moved = (_sample(fit, name) - old).norm() / max(size, 1e-12)
            add(seen, f"update of {name} (share of its weights)", [float(moved)])
        self._rates(fit, progress)
        self._look = None

    def arrived(self, part: Batch, progress: Progress) -> None:
        """The first clips of a batch where the model gets them, against what preparation left."""
        look, seen = self._look, progress.observing
        if look is None:
            return
        count = min(self.few, len(part))
        unlike = not torch.equal(part.video[:count], look.video[:count].to(part.video.device))
        add(seen, "model: clips unlike what was prepared", [float(unlike)])
        apart = (part.labels[:count] - look.labels[:count].to(part.labels)).abs().flatten()
        add(seen, "model: labels unlike what was prepared", apart.tolist())
        add(
            seen,
            "model: clips of another place",
            [float(not torch.equal(part.index[:count].cpu(), look.clips[:count]))],
        )

    def _rates(self, fit: Fit, progress: Progress) -> None:
        """Each group's rate and decay over what the stage's settings give for this step."""
        stage, seen, per_epoch = fit.stage, progress.observing, self._batches(progress)
        step = progress.step - 1
        names = {id(p): name for name, p in fit.model.named_parameters()}
        for group in fit.optimiser.param_groups:
            wanted = declared_rate(
                peak=group["peak_lr"],
                floor=stage.min_lr,
                step=step,
                warmup=round(stage.warmup * per_epoch),
                total=stage.epochs * per_epoch,
            )
            if wanted > 0 and step >= 0:
                add(seen, "rate applied over the declared", [group["lr"] / wanted])
            spared = {stage.decayed == "matrices" and _is_flat(names[id(p)], p) for p in group["params"]}
            for declared in (0.0 if is_spared else stage.weight_decay for is_spared in sorted(spared)):
                add(seen, "weight decay over the declared", [_over(group["weight_decay"], declared)])

    def shares(self, fit: Fit, shares: Mapping[str, Tensor]) -> None:
        """Each term's part of loss and gradient: once per epoch, or per hundred batches where epochs are shorter."""
        progress = self._open
        if self._look is None or progress is None or len(shares) < 2:
            return
        seen, names = progress.observing, [f"gradient share of {name}" for name in shares]
        due = progress.epoch % -(-SHARES_APART // self._batches(progress)) == 0
        earlier = [row["readings"] for row in progress.observed if row["stage"] == progress.stage + 1]
        known = all(any(name in row for row in earlier) for name in names)
        if all(name in seen for name in names) or (known and not due):
            return
        trained = [p for p in fit.model.parameters() if p.requires_grad]
        norms = {}
        for name, share in shares.items():
            found = torch.autograd.grad(share, trained, retain_graph=True, allow_unused=True)
            norms[name] = float(sum(g.float().square().sum() for g in found if g is not None)) ** 0.5
        whole, losses = sum(norms.values()), {n: abs(float(s.detach())) for n, s in shares.items()}
        for name, norm in norms.items():
            add(seen, f"gradient share of {name}", [norm / whole if whole else 0.0])
            add(seen, f"loss share of {name}", [losses[name] / max(sum(losses.values()), 1e-12)])

    @contextlib.contextmanager
    def scoring(self, fit: Fit, *, progress: Progress) -> Iterator[None]:
        """The first batch that an epoch's evaluation scores, and what it would give with parts switched off."""
        model = _classifier(fit)
        first: list[tuple[Batch, Outputs, bool]] = []

        def scored(module: nn.Module, given: tuple[Batch], found: Outputs) -> None:
            if not first and isinstance(given[0], Batch) and isinstance(found, Outputs):
                first.append((given[0], found, module.training))

        handle = model.register_forward_hook(scored)
        try:
            yield
        finally:
            handle.remove()
        if first:
            self._score(model, *first[0], seen=progress.observing)
        row = {"stage": progress.stage + 1, "epoch": progress.epoch + 1, "readings": progress.observing}
        progress.observed.append(row)
        progress.observing = {}

    @torch.no_grad()
    def _score(self, model: Classifier, batch: Batch, outputs: Outputs, training: bool, *, seen: dict) -> None:  # type: ignore[type-arg]
        add(seen, "scoring: in training mode", [float(training)])
        rows = self.val_set.table.frames[batch.index[:1].cpu().numpy() % len(self.val_set)]
        stored = torch.from_numpy(self.val_set.store.read(rows)).to(batch.video.device)
        add(seen, "scoring: a clip that is none of validation's", [float(not torch.equal(stored[0], batch.video[0]))])
        few = replace(batch.of(torch.arange(min(SCORED, len(batch)), device=batch.video.device)), tokens=None)
        if self.experiment.masking is not None:
            add(seen, "scoring: no mask was made", [float(outputs.kept is None)])
            if outputs.kept is not None:
                add(seen, "scoring: share of tokens masked", [1 - float(outputs.kept.float().mean())])
        was = model.training
        model.eval()
        seam = model.backbone.spec.layout.attention is not None
        attention = reading(model.backbone, layer=-1) if seam else contextlib.nullcontext(AttentionReading())
        with dropouts.counted(model) as dropped, attention as last:
            logits = model(few).logits.float()
        if batch.tokens is not None:
            add(seen, CACHED, [relative(outputs.logits[: len(few)].float(), logits)])
        add(seen, "scoring: dropouts that acted", [float(len(dropped))])
        if last.query_key is not None:  # on the same clips in every run
            add(seen, ENTROPY, [float(normalised_entropy(last.query_key).mean())])
        for name, off in switches(self.experiment, model).items():
            with off:
                without = model(few).logits.float()
            add(seen, f"scoring: change of logits without {name}", [relative(logits, without)])
        model.train(was)


def relative(whole: Tensor, other: Tensor) -> float:
    """How far apart two sets of logits are, relative to the larger."""
    size = max(float(whole.norm()), float(other.norm()))
    return float((whole - other).norm()) / size if size else 0.0


def declared_rate(*, peak: float, floor: float, step: int, warmup: int, total: int) -> float:
    """The rate of one step: up in a line to `peak`, then half a cosine down to `floor`, which the last step has."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    part = min(1.0, (step - warmup) / max(1, total - 1 - warmup))
    least = min(floor, peak)
    return least + (peak - least) * (1 + math.cos(math.pi * part)) / 2


def _is_flat(name: str, parameter: Tensor) -> bool:
    """Whether V-JEPA 2's official code spares a parameter weight decay: by its name, or for its one dimension."""
    return "bias" in name or len(parameter.shape) == 1


def _over(value: float, declared: float) -> float:
    return value / declared if declared else 1.0 + abs(value)


def _classifier(fit: Fit) -> Classifier:
    assert isinstance(fit.model, Classifier)
    return fit.model


def _samples(fit: Fit) -> dict[str, tuple[Tensor, float]]:
    """By group, some of its weights before a step, and their norm."""
    found = {}
    for group in fit.optimiser.param_groups:
        sample = _sample(fit, group["name"])
        found[group["name"]] = (sample, float(sample.norm()))
    return found


def _sample(fit: Fit, name: str) -> Tensor:
    parts = []
    for group in fit.optimiser.param_groups:
        if group["name"] == name:
            for p in group["params"]:
                flat = p.detach().flatten()
                parts.append(flat[:: max(1, len(flat) // _SAMPLE)].float())
    return torch.cat(parts).clone()
