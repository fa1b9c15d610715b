"""Check 6: what each component applies, measured over many draws, lies in the band that its settings declare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from calot.data.preparation import Preparation
from calot.data.sampling import Uniform
from calot.data.teaching import TaughtLabel, taught_of
from calot.experiment import Experiment
from calot.models.masking import MaskedPatches
from calot.provenance.evidence import DoseReading, DosesEvidence
from calot.provenance.receipt import ReceiptCheck, Status
from calot.receipts.meters.band import share
from calot.receipts.observed import declared_bands
from calot.receipts.probe import ProbeData, clean_batch, one_frame, trainer_for
from calot.receipts.watching import RunObserver
from calot.run.request import Request
from calot.run.trainer import Trainer
from calot.train.attention_losses import AttentionLoss
from calot.train.loop import epochs_without_gain
from calot.types import IGNORED, MASK_PIXELS, Batch, Masks

_DRAWS = 64  # epochs of the probe's clips that are prepared to measure what happens to them
_MANY = (
    "augment.",
    "mixing: ",
    "label_smoothing: ",
    "input: ",
    "model: ",
    "drawn: ",
)  # loader and preparation
_FOLLOWED = 16  # effective batches whose masks are held against their frames
_FEW = 8  # clips of each batch whose frames are measured
_SAMPLED = 20_000  # clips drawn to count what a sampler prefers
_SOME = (1e-9, 1.0)  # any share at all
_FOLLOWS = 0.6  # intersection over union of a painted shape and its mask after augmentation


def dose_check(experiment: Experiment, *, request: Request, data: ProbeData) -> ReceiptCheck:
    """Measure every dose that the experiment declares."""
    trainer = trainer_for(experiment, request=request, data=data)
    whole = data.of_experiment(experiment)
    doses = [
        *_sampling(experiment, labels=whole.whole("train", training=True).labels, seed=request.seed),
        *_preparation(trainer),
        *_following(trainer),
        *_masks(trainer, data=whole),
        *_masking(trainer),
        *_taught(trainer),
        *_patience(experiment),
    ]
    wrong = [d for d in doses if not d.met]
    status: Status = "failed" if wrong else "passed"
    named = [d for d in doses if not d.name.startswith(_MANY)]
    why = "; ".join(map(str, wrong or named))
    if not wrong:
        why = f"{len(doses)} readings as declared" + (f": {why}" if why else "")
    return ReceiptCheck(
        name="dose",
        status=status,
        why=why,
        evidence=DosesEvidence(doses=tuple(doses)),
    )


def _dose(name: str, value: float, low: float, high: float) -> DoseReading:
    return DoseReading(name=name, value=value, low=low, high=high)


def _binomial(name: str, *, count: int, of: int, probability: float) -> DoseReading:
    low, high = share(probability).around(of)
    return _dose(name, count / of, max(0.0, low), min(1.0, high))


def _sampling(experiment: Experiment, *, labels: np.ndarray, seed: int) -> Iterator[DoseReading]:
    """The positive rate of what the sampler draws, by criterion, against the one it declares."""
    if isinstance(experiment.sampler, Uniform):
        return
    epochs = -(-_SAMPLED // len(labels))
    orders = [experiment.sampler.order(labels, rng=np.random.default_rng([seed, 7, e])) for e in range(epochs)]
    drawn = np.concatenate(orders)
    expected = experiment.sampler.expected(labels) @ (labels >= 0.5)
    for k, rate in enumerate(expected.tolist()):
        positive = int((labels[drawn, k] >= 0.5).sum())
        yield _binomial(f"sampled positive rate of C{k + 1}", count=positive, of=len(drawn), probability=rate)


def _taught(trainer: Trainer) -> Iterator[DoseReading]:
    """How far the probe's targets are from the taught table and the raters, and how far from the raters' majority."""
    rule, table = trainer.request.experiment.label, trainer.train_set.table
    if not isinstance(rule, TaughtLabel):
        return
    batch = clean_batch(trainer)
    rows = batch.index.cpu().numpy()
    taught = taught_of(Path(rule.targets), videos=table.videos[rows], frames=table.frame_numbers[rows])
    wanted = (1 - rule.raters) * taught + rule.raters * batch.soft.cpu().numpy()
    given = batch.labels.cpu().numpy()
    yield _dose("largest distance of a target from what was taught", float(np.abs(given - wanted).max()), 0.0, 1e-6)
    moved = float(np.abs(given - table.majority[rows]).mean())
    yield _dose("mean distance of targets from the raters' majority", moved, *_SOME)


def _patience(experiment: Experiment) -> Iterator[DoseReading]:
    """How many epochs the loop trains when none after the first is better, where patience ends a stage early."""
    for number, stage in enumerate(experiment.stages, start=1):
        if stage.patience_binds:
            wanted = float(stage.without_gain)
            yield _dose(f"epochs of stage {number} without a gain", epochs_without_gain(stage), wanted, wanted)


def _preparation(trainer: Trainer) -> Iterator[DoseReading]:
    """What many epochs of the real loader do to the probe's clips, of one frame each, part by part."""
    experiment = trainer.request.experiment
    seen = one_frame(trainer)
    seen.observer = observer = RunObserver(experiment, seen.train_set, seen.val_set, apart=1, few=_FEW)
    declared = declared_bands(experiment, stage=0, labels=seen.train_set.table.labels)
    for epoch in range(_DRAWS):
        for batch in seen.batches(experiment.train, epoch=epoch, start=0):
            observer.arrived(batch, seen.progress)
    for name, band in declared.items():
        if name.startswith(_MANY):
            tally = seen.progress.observing.get(name)
            if tally is not None:
                low, high = band.around(tally[0])
                value = tally[1] / tally[0]
                met = band.met(tally)
                yield _dose(name, value if met or not low <= value <= high else tally[3], low, high)
            elif band.needed:
                yield _dose(f"{name}: never seen; readings", 0.0, 1.0, 1.0)


def _following(trainer: Trainer) -> Iterator[DoseReading]:
    """Whether masks follow their frames and all frames of a clip change alike, on clips that show their own mask."""
    experiment = trainer.request.experiment
    batch = clean_batch(trainer)
    if not experiment.augment:
        return
    painted = _painted(batch)
    prepare = Preparation(augment=experiment.augment, seed=trainer.request.seed)
    overlaps, changed, flicker = [], 0, 0.0
    for draw in range(_FOLLOWED):
        after = prepare(painted, stage=0, epoch=draw, start=0).batch
        assert after.masks is not None
        overlaps.append(_overlap(after))
        changed += int(not torch.equal(after.video, painted.video))
        flicker = max(flicker, float((after.video[:, :1].int() - after.video.int()).abs().max()))
    yield _dose("largest difference between a still clip's frames after augmentation", flicker, 0.0, 0.0)
    yield _dose("share of batches that augmentation changed", changed / _FOLLOWED, 0.2, 1.0)
    if experiment.uses_masks:
        yield _dose("overlap of frames and masks after augmentation", float(np.mean(overlaps)), _FOLLOWS, 1.0)


def _painted(batch: Batch) -> Batch:
    """Two equal frames per clip, white where a block of their own mask says anatomy: a shape without any symmetry."""
    side = batch.video.shape[-1]
    cells = side // 2 if batch.masks is None else batch.masks.values.shape[-1]
    shape = torch.zeros(cells, cells, dtype=torch.uint8, device=batch.video.device)
    unit = max(1, cells // 8)
    shape[2 * unit : 6 * unit, 2 * unit : 3 * unit] = 1
    shape[5 * unit : 6 * unit, 2 * unit : 5 * unit] = 1
    values = shape.expand(len(batch), 1, -1, -1).clone()
    grey = F.interpolate(values.float() * 255, size=(side, side), mode="nearest").to(torch.uint8)
    one = torch.ones(len(batch), 1, device=batch.video.device)
    first = torch.zeros_like(one, dtype=torch.long)
    masks = Masks(values=values, weight=one, place=first, complete=one.bool().all(dim=1))
    return replace(batch, video=grey[:, :, None].repeat(1, 2, 3, 1, 1), masks=masks)


def _overlap(batch: Batch) -> float:
    assert batch.masks is not None
    values = batch.masks.values[:, 0]
    grey = batch.video[:, 0].float().mean(dim=1)
    seen = F.avg_pool2d(grey[:, None], grey.shape[-1] // values.shape[-1])[:, 0]
    peak = seen.amax(dim=(1, 2), keepdim=True).clamp_min(1.0)
    valid = values != IGNORED
    found, true = (seen > peak / 2) & valid, (values > 0) & valid
    return float((found & true).sum() / (found | true).sum().clamp_min(1))


def _masks(trainer: Trainer, *, data: ProbeData) -> Iterator[DoseReading]:
    """Share of training clips with a mask, and with enough of one for attention supervision."""
    experiment = trainer.request.experiment
    if not experiment.uses_masks:
        return
    found = data.masks(data.whole("train", training=True))
    assert found is not None
    yield _dose("share of training clips with a mask", found.coverage()["all"], *_SOME)
    for term in experiment.loss.every_term():
        if isinstance(term.loss, AttentionLoss):
            masks = clean_batch(trainer).masks
            assert masks is not None
            supervised = float(term.loss.supervised(masks).float().mean())
            yield _dose("share of the probe's clips under attention supervision", supervised, *_SOME)


@torch.no_grad()
def _masking(trainer: Trainer) -> Iterator[DoseReading]:
    """The share of tokens that hard masking drops, against the share reckoned from the masks themselves."""
    masking = trainer.request.experiment.masking
    if masking is None:
        return
    batch = clean_batch(trainer)
    assert batch.masks is not None
    trainer.model.train()
    kept = trainer.model(batch).kept
    chosen = batch.masks.complete.cpu()
    dropped = 1 - float(kept[chosen].float().mean())
    wanted = 1 - _anatomy_share(batch.masks.values[chosen], patches=masking.patches)
    yield _dose("share of tokens masked", dropped, max(0.02, wanted - 1e-6), min(0.999, wanted + 1e-6))


def _anatomy_share(values: Tensor, *, patches: MaskedPatches) -> float:
    """Share of tokens with anatomy, cell by cell in numpy; a clip without any keeps all its tokens."""
    anatomy = ((values > 0) & (values != IGNORED)).any(dim=1).cpu().numpy()
    clips, height, width = anatomy.shape
    rows, columns = height // MASK_PIXELS, width // MASK_PIXELS
    pixels = anatomy.reshape(clips, rows, MASK_PIXELS, columns, MASK_PIXELS)
    middle = MASK_PIXELS // 2
    cells = pixels[:, :, middle, :, middle] if patches == "nearest pixel" else pixels.max(axis=4).max(axis=2)
    shares = [float(cells[i].mean()) or 1.0 for i in range(clips)]
    return float(np.mean(shares))
