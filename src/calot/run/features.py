"""Which stages read from a cache what the frozen part of a backbone gives, and how the cache is made and checked.

Of a frozen backbone that is its tokens; of one whose upper layers train, what enters the lowest of them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from calot.data.dataset import ClipDataset, EpochIndices
from calot.data.preparation import Preparation
from calot.errors import CalotError
from calot.locking import locked
from calot.models.backbones.protocol import Backbone
from calot.run.environment import code_hash
from calot.run.feature_choice import chosen_kind, feature_shape, unfit
from calot.train.features import TOLERANCE, FeatureBuild, FeatureCache, FeatureShape, Kind, features_key, open_features
from calot.train.stage import Stage
from calot.types import Batch, Tokens
from calot.wall import spent_on
from calot.writing import clear_disk_errors

if TYPE_CHECKING:
    from calot.run.trainer import Trainer

GPU_SHARE = 0.4  # of the GPU's free memory: features that fit into it are held there
_RECOMPUTED = 2  # clips that are encoded again when a cache is opened


@dataclass(frozen=True)
class StageFeatures:
    """A stage's features: of the training clips in each view that augmentation may show, of validation as it is."""

    train: FeatureCache
    val: FeatureCache
    preparation: Preparation
    stage: int
    frozen: tuple[Module, ...]  # what gave them
    written: tuple[int, ...]  # how often each of its tensors had been written to

    def require_current(self) -> None:
        """Raises RuntimeError where the backbone was written to after its features were made: they are not its own."""
        if self.written != _written(self.frozen):
            raise RuntimeError("the backbone changed while its cached features were in use: a fault of Calot")

    def with_tokens(self, batch: Batch, *, epoch: int, start: int) -> Batch:
        """A prepared batch of training clips with the tokens of the views that its augmentation drew.

        Frames, where it has them, stay: they are those that the tokens stand for.
        """
        self.require_current()
        clips = batch.index.cpu().numpy()
        views = self.preparation.drawn(clips, stage=self.stage, epoch=epoch, start=start)
        return replace(batch, tokens=self.train.read(clips, views=views)).to(batch.labels.device)


@dataclass(frozen=True, eq=False)
class CachedClips(ClipDataset):
    """Clips as they are stored, with their tokens. The first batch of a pass has its frames too, to be looked at."""

    features: FeatureCache | None = field(default=None)

    def __getitem__(self, request: EpochIndices) -> Batch:
        assert self.features is not None
        batch = super().__getitem__(replace(request, frames=request.start == 0))
        return replace(batch, tokens=self.features.read(np.asarray(request.indices, dtype=np.int64)))


def cached(clips: ClipDataset, features: FeatureCache) -> CachedClips:
    """Clips that bring their tokens."""
    return CachedClips(clips.table, clips.store, masks=clips.masks, features=features)


@spent_on("features")
def stage_features(trainer: Trainer, stage: Stage) -> StageFeatures | None:
    """The features of a stage whose backbone is frozen, or frozen below some layer, built where they are missing; None
    where it computes them.

    Raises CalotError where `compute.features` asks for them and they cannot stand in for the backbone.
    """
    asked = trainer.request.experiment.compute.features
    if asked == "off":
        return None
    if trainer.model.backbone.first_trained in (-1, 0):
        if asked != "auto":
            where = f"stage {trainer.progress.stage + 1} trains from its lowest parts on"
            trainer.ui.say(f"compute.features={asked}: {where}, so that every clip is computed in every epoch")
        return None
    experiment, model, preparation = trainer.request.experiment, trainer.model, trainer.preparation
    if (why := unfit(experiment, model, preparation=preparation)) is not None:
        if asked != "auto":
            raise CalotError(f"compute.features={asked}: {why}. Use compute.features=off.")
        return None
    wanted = kind_wanted(trainer, stage, clips={"train": len(trainer.train_set), "val": len(trainer.val_set)})
    agreed = trainer.processes.agreed(wanted or "none")
    kind: Kind | None = next((k for k in TOLERANCE if k == agreed), None)
    return None if kind is None else trainer.processes.in_turn(lambda: _made(trainer, kind))


def kind_wanted(trainer: Trainer, stage: Stage, *, clips: Mapping[str, int]) -> Kind | None:
    """How the features of a stage that can be cached are to be stored, with so many clips of each split, if at all."""
    experiment, views = trainer.request.experiment, len(trainer.preparation.listed)
    free = shutil.disk_usage(trainer.train_set.store.path).free
    return chosen_kind(experiment, trainer.model, stage=stage, views=views, clips=clips, free=free)


def _made(trainer: Trainer, kind: Kind) -> StageFeatures:
    preparation = trainer.preparation
    backbone = _backbone_facts(trainer)
    train = _opened(trainer, trainer.train_set, preparation=preparation, kind=kind, backbone=backbone)
    val = _opened(trainer, trainer.val_set, preparation=Preparation(), kind=kind, backbone=backbone)
    frozen = _frozen(trainer.model.backbone)
    return StageFeatures(train, val, preparation, trainer.progress.stage, frozen, _written(frozen))


def _frozen(backbone: Backbone) -> tuple[Module, ...]:
    """All that acts on a clip before anything trains."""
    first = backbone.first_trained
    return (backbone,) if first is None else backbone.parts_below(first)


def _written(modules: tuple[Module, ...]) -> tuple[int, ...]:
    return tuple(tensor._version for module in modules for tensor in (*module.parameters(), *module.buffers()))


def _opened(
    trainer: Trainer, clips: ClipDataset, *, preparation: Preparation, kind: Kind, backbone: dict[str, Any]
) -> FeatureCache:
    """The cache of a split's clips, checked against the backbone on some of them."""
    experiment, views = trainer.request.experiment, len(preparation.listed)
    shape = feature_shape(experiment, clips=len(clips), views=views, kind=kind)
    windows = hashlib.sha256(np.ascontiguousarray(clips.table.frames, dtype=np.int64).tobytes()).hexdigest()
    facts = backbone | {"pixels": clips.store.digest, "windows": windows, "views": list(preparation.listed)}
    home = clips.store.path.parent.parent / "features" / features_key(facts, shape)[:24]
    if not home.exists():
        with clear_disk_errors(home):
            home.parent.mkdir(parents=True, exist_ok=True)
            with locked(home.with_name(f"{home.name}.lock")):  # a second run that needs them waits
                _build(trainer, clips, preparation=preparation, home=home, facts=facts, shape=shape)
    found = replace(open_features(home, facts=facts, shape=shape), entering=backbone["entering"])
    _recompute_some(trainer, clips, preparation=preparation, found=found)
    return _placed(found, trainer=trainer)


def _build(
    trainer: Trainer,
    clips: ClipDataset,
    *,
    preparation: Preparation,
    home: Path,
    facts: dict[str, Any],
    shape: FeatureShape,
) -> None:
    """Build a cache where it is still missing."""
    if not home.exists():
        free, split = shutil.disk_usage(home.parent.parent).free, clips.table.split
        trainer.ui.say(
            f"features of {shape.clips} {split} clips in {', '.join(preparation.listed)} ({shape.kind}): "
            f"{shape.bytes / 1e9:.3f} GB of {free / 1e9:.1f} GB free at {home.parent}"
        )
        with trainer.ui.task(f"features {split}") as advance:
            compute = _Computing(trainer, clips, preparation)
            FeatureBuild(home=home, shape=shape, facts=facts, compute=compute).run(advance=advance)


def _backbone_facts(trainer: Trainer) -> dict[str, Any]:
    """What features depend on beside the clips: every weight is read, so it is found once per stage."""
    weights, backbone = hashlib.sha256(), trainer.model.backbone
    for number, part in enumerate(_frozen(backbone)):
        for name, tensor in sorted(part.state_dict().items()):
            weights.update(f"{number} {name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return {
        "weights": weights.hexdigest(),
        "entering": backbone.first_trained,
        "backbone": repr(backbone.spec),
        "code": code_hash(below="models"),
        "torch": torch.__version__,
        "precision": trainer.accelerator.mixed_precision,
        "device": trainer.accelerator.device.type,
    }


@dataclass(frozen=True)
class _Computing:
    """Encodes consecutive clips as a frozen backbone does in training and in evaluation."""

    trainer: Trainer
    clips: ClipDataset
    preparation: Preparation

    def __call__(self, view: int, clips: range) -> Iterator[Tensor]:
        size = self.trainer.request.experiment.compute.evaluation_batch
        for start in range(clips.start, clips.stop, size):
            yield from self.encoded(view, tuple(range(start, min(start + size, clips.stop))))
            self.trainer.stopper.check()

    def encoded(self, view: int, clips: tuple[int, ...]) -> list[Tensor]:
        """Tokens of some clips, in as few parts as memory takes them."""
        batch = self.clips[EpochIndices(epoch=0, indices=clips, start=0)]
        show = list(self.preparation.listed.values())[view]
        backbone, accelerator = self.trainer.model.backbone, self.trainer.accelerator
        backbone.eval()
        first = backbone.first_trained
        shown = replace(batch.to(accelerator.device), video=show(batch.video.to(accelerator.device)))

        @torch.no_grad()
        def compute(part: Batch) -> Tensor:
            with accelerator.autocast():
                tokens: Tokens = backbone(part.video) if first is None else backbone.below(part.video, layer=first)
            return tokens.values.float()

        where = f"encoding {self.clips.table.split}"
        return [tokens for tokens, _ in self.trainer.scoring.parts(shown, compute=compute, where=where)]


def _recompute_some(trainer: Trainer, clips: ClipDataset, *, preparation: Preparation, found: FeatureCache) -> None:
    """Raises CalotError where clips chosen at random are not what the backbone gives now."""
    rng, compute = np.random.default_rng(), _Computing(trainer, clips, preparation)
    for clip in rng.choice(len(clips), size=min(_RECOMPUTED, len(clips)), replace=False).tolist():
        view = int(rng.integers(found.shape.views))
        (now,) = compute.encoded(view, (clip,))
        kept = found.read(np.array([clip]), views=np.array([view])).values.to(now.device)
        apart = float((now - kept).norm() / now.norm().clamp_min(1e-12))
        if not apart <= found.tolerance * (1 if trainer.accelerator.mixed_precision == "no" else 10):
            where = clips.table.clip(clip)
            raise CalotError(
                f"{found.path}: the features of video {where.video} frame {where.frame} are {apart:.2g} of their size "
                f"away from what the backbone gives now ({found.tolerance:g} allowed). Delete the folder."
            )


def _placed(found: FeatureCache, *, trainer: Trainer) -> FeatureCache:
    """Held on the GPU where it fits; else read from the file, which the system keeps in memory as far as it can."""
    device = trainer.accelerator.device
    if device.type != "cuda" or found.shape.bytes > GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        return found
    return replace(found, device=device)
