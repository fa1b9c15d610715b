"""Treatments that do nothing, or not what they say, planted in the code: what each is, and who must catch it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from calot.data import augmentations, dataset, mixing, preparation
from calot.data.augmentations import ColourJitter, GaussianBlur, RandomErasing
from calot.data.boxes import Box
from calot.data.clips import SoftLabel
from calot.data.dataset import ClipDataset, EpochIndices
from calot.data.geometry import CentreCrop, Squash
from calot.data.mixing import Mixed, Mixing
from calot.data.numbering import FrameNumbering
from calot.data.preparation import Prepared
from calot.data.sampling import Balanced
from calot.data.store import FrameStore
from calot.data.transforms import HorizontalFlip
from calot.evaluation import passes
from calot.models import adaptation, attention_statistics, classifier, masking
from calot.models.adaptation import LoRA, ParameterGroup, Unfreeze
from calot.models.classifier import Classifier
from calot.models.masking import AttentionBias, TokenMasking
from calot.run import trainer as running
from calot.run.trainer import Trainer
from calot.train import loop, optim
from calot.train.losses import BCE, FocalLoss
from calot.train.objective import Selection
from calot.train.optim import Schedule
from calot.types import Batch, QueryKey

Patch = pytest.MonkeyPatch
D = "augment=[HorizontalFlip(), Rotation(), ColourJitter(), RandomErasing(), GaussianBlur()]"


@dataclass(frozen=True)
class Plant:
    """A fault of a family, in an experiment with changes; `check` must fail and say `says`."""

    name: str
    family: str
    experiment: str
    check: str
    says: str
    put: Callable[[Patch], None] = lambda patch: None
    changes: tuple[str, ...] = ()


PLANTS: list[Plant] = []


def plant(family: str, experiment: str, check: str, says: str, *changes: str) -> Any:
    """Register a function that plants a fault; its name, in words, is the fault's."""

    def keep(put: Callable[[Patch], None]) -> Callable[[Patch], None]:
        name = put.__name__.replace("_", " ")
        PLANTS.append(Plant(name, family, experiment, check, says, put, changes))
        return put

    return keep


def setting(name: str, family: str, experiment: str, check: str, says: str, *changes: str) -> None:
    """Register a fault that needs no code: settings that do nothing."""
    PLANTS.append(Plant(name, family, experiment, check, says, changes=changes))


# Data and loader.


@plant("loader", "e10a_lora_r16", "dose", "augment.0: share mirrored: never seen")
def the_loop_never_prepares_its_batches(patch: Patch) -> None:
    patch.setattr(Trainer, "prepared", lambda self, batch, **where: Prepared(batch, None, np.ones(len(batch))))


@plant("loader", "e02_frozen_probe", "dose", "clips unlike what was prepared")
def what_was_prepared_is_thrown_away(patch: Patch) -> None:
    real = Trainer.prepared
    patch.setattr(Trainer, "prepared", lambda s, b, **w: replace(real(s, b, **w), batch=b))


@plant("loader", "e02_frozen_probe", "observed", "distinct frames")
def every_clip_is_one_frame_repeated(patch: Patch) -> None:
    real = FrameStore.read

    def read(self: FrameStore, rows: Any) -> Any:
        return real(self, rows if rows.ndim < 2 else np.repeat(rows[:, -1:], rows.shape[1], axis=1))

    patch.setattr(FrameStore, "read", read)


@plant("loader", "e02_frozen_probe", "dose", "unlike its stored frames")
def clips_get_the_frames_of_others(patch: Patch) -> None:
    real = ClipDataset.__getitem__

    def other(self: ClipDataset, request: EpochIndices) -> Batch:
        batch = real(self, request)
        return replace(batch, video=batch.video.roll(1, dims=0))

    patch.setattr(ClipDataset, "__getitem__", other)


@plant("loader", "e02_frozen_probe", "dose", "labels unlike the table's")
def labels_are_those_of_other_clips(patch: Patch) -> None:
    real = ClipDataset.__getitem__

    def other(self: ClipDataset, request: EpochIndices) -> Batch:
        batch = real(self, request)
        return replace(batch, labels=1 - batch.labels)

    patch.setattr(ClipDataset, "__getitem__", other)


@plant("data", "e02_frozen_probe", "declared difference", "clip.stride", "clip.stride=2", "protocol=AllFrames()")
def the_stride_of_clips_is_ignored(patch: Patch) -> None:
    real = FrameNumbering.frames_in
    patch.setattr(FrameNumbering, "frames_in", lambda self, seconds: real(self, min(seconds, 1)))


@plant("cache", "e02_frozen_probe", "declared difference", "geometry", "geometry=CentreCrop()")
def decoded_frames_of_another_geometry_are_kept(patch: Patch) -> None:
    squash = Squash()
    patch.setattr(CentreCrop, "__call__", lambda self, image, size: squash(image, size=size))


@plant("labels", "e02_frozen_probe", "declared difference", "label", "label=SoftLabel()")
def soft_labels_are_the_majority(patch: Patch) -> None:
    from calot.data.clips import CentreLabel

    patch.setattr(SoftLabel, "__call__", lambda self, clips: CentreLabel()(clips))


# Augmentation.


def _never(component: type, **neutral: float) -> Callable[[Patch], None]:
    def put(patch: Patch) -> None:
        real = component.change  # type: ignore[attr-defined]
        patch.setattr(component, "change", lambda self, *a, **k: real(replace(self, **neutral), *a, **k))

    return put


for _factor, _says in (
    ("brightness", "brightness factor"),
    ("contrast", "contrast factor"),
    ("saturation", "saturation factor"),
    ("hue", "hue's turn"),
):
    PLANTS.append(
        Plant(
            f"{_factor} is ignored",
            "augmentation",
            "e02_frozen_probe",
            "dose",
            _says,
            _never(ColourJitter, **{_factor: 0.0}),
            ("augment=[ColourJitter()]",),
        )
    )


@plant("augmentation", "e02_frozen_probe", "dose", "angle in degrees, without its sign", "augment=[Rotation()]")
def rotation_is_fifty_times_too_small(patch: Patch) -> None:
    real = augmentations.rotate
    patch.setattr(augmentations, "rotate", lambda image, degrees, mode: real(image, degrees=degrees / 50, mode=mode))


@plant("augmentation", "e02_frozen_probe", "dose", "angle in degrees is", "augment=[Rotation()]")
def rotation_turns_one_way_only(patch: Patch) -> None:
    real = augmentations.rotate
    patch.setattr(augmentations, "rotate", lambda image, degrees, mode: real(image, degrees=abs(degrees), mode=mode))


@plant("augmentation", "e02_frozen_probe", "dose", "share erased", "augment=[RandomErasing()]")
def erasing_never_erases(patch: Patch) -> None:
    _never(RandomErasing, probability=0.0)(patch)


@plant("augmentation", "e02_frozen_probe", "dose", "erased share of the area", "augment=[RandomErasing()]")
def erased_boxes_are_a_tenth_of_their_size(patch: Patch) -> None:
    real = RandomErasing.draw

    def draw(self: RandomErasing, *, rng: Any, grid: Any) -> Box:
        return real(replace(self, area=(self.area[0] / 10, self.area[1] / 10)), rng=rng, grid=grid)

    patch.setattr(RandomErasing, "draw", draw)


@plant("augmentation", "e02_frozen_probe", "dose", "grey level of what was erased", "augment=[RandomErasing()]")
def erasing_fills_with_black(patch: Patch) -> None:
    real = RandomErasing.change
    patch.setattr(RandomErasing, "change", lambda self, *a, **k: real(replace(self, fill="black"), *a, **k))


@plant("augmentation", "e02_frozen_probe", "dose", "share blurred", "augment=[GaussianBlur()]")
def blur_never_blurs(patch: Patch) -> None:
    _never(GaussianBlur, probability=0.0)(patch)


@plant("augmentation", "e02_frozen_probe", "dose", "sigma in pixels", "augment=[GaussianBlur(probability=0.5)]")
def blur_is_always_the_weakest(patch: Patch) -> None:
    real = GaussianBlur.change
    patch.setattr(GaussianBlur, "change", lambda self, *a, **k: real(replace(self, sigma=(0.5, 0.5)), *a, **k))


@plant("augmentation", "e02_frozen_probe", "dose", "share mirrored")
def flip_never_flips(patch: Patch) -> None:
    real = HorizontalFlip.__call__
    patch.setattr(HorizontalFlip, "__call__", lambda self, b, rngs: real(replace(self, probability=0.0), b, rngs=rngs))


@plant("augmentation", "e08_multitask", "dose", "masks that did not follow")
def flip_forgets_the_masks(patch: Patch) -> None:
    real = HorizontalFlip.__call__
    patch.setattr(HorizontalFlip, "__call__", lambda s, b, rngs: replace(real(s, b, rngs=rngs), masks=b.masks))


@plant("augmentation", "e02_frozen_probe", "dose", "still clip's frames", "augment=[ColourJitter()]")
def colours_flicker_from_frame_to_frame(patch: Patch) -> None:
    real = ColourJitter.change

    def change(self: ColourJitter, clip: Any, layers: Any, *, rng: Any, grid: Any) -> None:
        for frame in clip:
            real(self, frame[None], None, rng=rng, grid=grid)

    patch.setattr(ColourJitter, "change", change)


# Targets.


@plant("labels", "e12_regularized", "dose", "share of the way to 1/2")
def smoothing_is_done_twice(patch: Patch) -> None:
    real = mixing.smooth_labels
    patch.setattr(preparation, "smooth_labels", lambda y, strength: real(real(y, strength=strength), strength=strength))


@plant("labels", "e12_regularized", "dose", "share of the way to 1/2")
def smoothing_is_ignored(patch: Patch) -> None:
    patch.setattr(preparation, "smooth_labels", lambda y, strength: y.clone())


@plant("mixing", "e12_regularized", "dose", "between the share in frames and in labels")
def frames_are_mixed_and_labels_are_not(patch: Patch) -> None:
    patch.setattr(mixing, "_mixed_labels", lambda batch, partners, lam: batch.labels)


@plant("mixing", "e12_regularized", "dose", "between the share in frames and in labels")
def labels_are_mixed_and_frames_are_not(patch: Patch) -> None:
    real = Mixing.__call__

    def call(self: Mixing, batch: Batch, *, rng: Any) -> Mixed:
        mixed = real(self, batch, rng=rng)
        return replace(mixed, batch=replace(mixed.batch, video=batch.video))

    patch.setattr(Mixing, "__call__", call)


@plant("mixing", "e12_regularized", "dose", "cutmix: squared distance")
def cutmix_boxes_are_a_hundredth_of_the_drawn_area(patch: Patch) -> None:
    real = mixing._boxes
    patch.setattr(mixing, "_boxes", lambda shares, **how: real(1 - (1 - shares) / 100, **how))


@plant("mixing", "e12_regularized", "dose", "between the share in frames and in labels")
def labels_are_mixed_by_the_drawn_area_and_not_the_true(patch: Patch) -> None:
    real, drawn = mixing._boxes, []

    def boxes(shares: Any, **how: Any) -> list[Box]:
        drawn.append(shares)
        return real(shares, **how)

    labels = mixing._mixed_labels
    patch.setattr(mixing, "_boxes", boxes)
    patch.setattr(mixing, "_mixed_labels", lambda batch, p, lam: labels(batch, p, lam=drawn.pop() if drawn else lam))


@plant("mixing", "e12_regularized", "dose", "share of batches under mixup")
def mixing_never_fires(patch: Patch) -> None:
    patch.setattr(Mixing, "__call__", lambda self, batch, rng: Mixed(batch, None, np.ones(len(batch))))


@plant("mixing", "e12_regularized", "dose", "mixup: spread of the kept share", "mixing.per_clip=True")
def one_share_is_drawn_for_all_clips(patch: Patch) -> None:
    real = Mixing._shares
    patch.setattr(
        Mixing, "_shares", lambda self, a, count, rng: real(replace(self, per_clip=False), a, count=count, rng=rng)
    )


@plant("mixing", "e12_regularized", "declared difference", "mixing.mixup_alpha")
def the_shape_of_mixup_is_ignored(patch: Patch) -> None:
    real = Mixing._shares
    patch.setattr(Mixing, "_shares", lambda self, a, count, rng: real(self, 1.0, count=count, rng=rng))


@plant("mixing", "e12_regularized", "dose", "masks of the other clip that are missing")
def the_other_clip_keeps_its_masks_to_itself(patch: Patch) -> None:
    patch.setattr(mixing, "_layers", lambda mine, theirs, shares: mine)


# Sampling.


@plant("sampler", "e04_balanced", "dose", "sampled positive rate")
def a_balanced_sampler_is_uniform(patch: Patch) -> None:
    patch.setattr(Balanced, "order", lambda self, labels, rng: rng.permutation(len(labels)))


@plant("sampler", "e04_balanced", "dose", "drawn: positive rate")
def the_loader_does_not_ask_the_sampler(patch: Patch) -> None:
    real = dataset.batches

    def batches(clips: ClipDataset, *, order: Any, epoch: int, **how: Any) -> Any:
        return real(clips, order=np.random.default_rng(epoch).permutation(len(clips)), epoch=epoch, **how)

    patch.setattr(running, "batches", batches)


# Losses.


@plant("loss", "e06_c2_weighted", "declared difference", "loss.pos_weight")
def class_weights_are_ignored(patch: Patch) -> None:
    real = BCE.__call__
    patch.setattr(BCE, "__call__", lambda self, o, b: real(BCE(), o, b))


@plant("loss", "e03_focal", "declared difference", "loss.gamma")
def the_focal_exponent_is_ignored(patch: Patch) -> None:
    real = FocalLoss.__call__
    patch.setattr(FocalLoss, "__call__", lambda self, o, b: real(replace(self, gamma=1.0), o, b))


@plant("loss", "e11_attention_supervision", "loss terms", "attention sends no gradient")
def supervision_reads_detached_queries_and_keys(patch: Patch) -> None:
    real = QueryKey.of

    def of(self: QueryKey, clips: Any) -> QueryKey:
        few = real(self, clips)
        return replace(few, query=few.query.detach(), key=few.key.detach())

    patch.setattr(QueryKey, "of", of)


setting(
    "a term weighs 1e-12",
    "loss",
    "e11_attention_supervision",
    "loss terms",
    "attention is negligible",
    "loss.terms.attention.weight=1e-12",
)
setting(
    "smoothing of 1e-9",
    "labels",
    "e02_frozen_probe",
    "declared difference",
    "label_smoothing is negligible",
    "label_smoothing=1e-9",
)


# Adapters.


def _adapters_made_as(patch: Patch, other: Callable[[LoRA], LoRA]) -> None:
    """Adapters are made with other settings than the declared ones."""
    real = LoRA.config
    patch.setattr(LoRA, "config", lambda self, backbone: real(other(self), backbone))


@plant("adapter", "e10a_lora_r16", "observed", "backbone: dropout of 0.1 was never seen")
def adapters_do_not_drop(patch: Patch) -> None:
    _adapters_made_as(patch, lambda self: replace(self, dropout=0.0))


@plant("adapter", "e10a_lora_r16", "declared difference", "train.adaptation.dropout")
def adapters_do_not_drop_and_it_is_declared(patch: Patch) -> None:
    adapters_do_not_drop(patch)


@plant("adapter", "e10a_lora_r16", "declared difference", "train.adaptation.alpha")
def the_scale_of_adapters_is_ignored(patch: Patch) -> None:
    _adapters_made_as(patch, lambda self: replace(self, alpha=self.rank))


@plant("adapter", "e10b_lora_r32_qkv", "trainable parameters", "k declares")
def a_target_matches_nothing(patch: Patch) -> None:
    _adapters_made_as(patch, lambda self: replace(self, targets=("q", "v")))

    def insert(self: LoRA, backbone: Any) -> None:
        from peft import inject_adapter_in_model

        inject_adapter_in_model(self.config(backbone), backbone.model)
        backbone.adapter = self

    patch.setattr(LoRA, "_insert", insert)


@plant("adapter", "e10a_lora_r16", "trainable parameters", "declares")
def adapters_have_half_their_rank(patch: Patch) -> None:
    _adapters_made_as(patch, lambda self: replace(self, rank=self.rank // 2))


@plant("adapter", "e10a_lora_r16", "observed", "change of logits without adapter is 0")
def adapters_are_off_in_evaluation(patch: Patch) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    real = Classifier.train

    def train(self: Classifier, mode: bool = True) -> Classifier:
        for module in self.modules():
            if isinstance(module, BaseTunerLayer):
                module._disable_adapters = not mode
        return real(self, mode)

    patch.setattr(Classifier, "train", train)


@plant("adapter", "e10a_lora_r16", "gradients", "backbone.unused.weight")
def adapters_sit_where_nothing_runs(patch: Patch) -> None:
    real = LoRA.apply

    def apply(self: LoRA, backbone: Any) -> tuple[ParameterGroup, ...]:
        (group,) = real(self, backbone)
        if not hasattr(backbone, "unused"):
            backbone.unused = nn.Linear(8, 8, bias=False)
        backbone.unused.requires_grad_(True)
        return (replace(group, parameters=(*group.parameters, backbone.unused.weight)),)

    patch.setattr(LoRA, "apply", apply)


setting(
    "adapters learn at 1e-15",
    "adapter",
    "e10a_lora_r16",
    "gradients",
    "negligible",
    "train.adaptation.lr=1e-15",
)


# Attention.


@plant("attention", "e11_attention_supervision", "instruments", "do not rebuild its output")
def supervision_reads_the_first_layer(patch: Patch) -> None:
    real = classifier.tapped

    @contextmanager
    def first(model: nn.Module, *, layers: tuple[int, ...]) -> Iterator[Any]:
        with real(model, layers=(0,)) as seen:
            yield _Renamed(seen, layers)

    patch.setattr(classifier, "tapped", first)


class _Renamed(dict[int, Any]):
    """Layer 0 under other numbers."""

    def __init__(self, seen: dict[int, Any], layers: tuple[int, ...]) -> None:
        super().__init__()
        self.seen, self.layers = seen, layers

    def __bool__(self) -> bool:
        return bool(self.layers)

    def __contains__(self, number: object) -> bool:
        return number in self.layers

    def __getitem__(self, number: int) -> Any:
        return self.seen[0]


@plant("attention", "e11_attention_supervision", "instruments", "a map planted on one token")
def received_attention_is_averaged_over_tokens(patch: Patch) -> None:
    from calot.receipts import attention

    real = attention_statistics.received_attention
    patch.setattr(attention, "received_attention", lambda qk: real(qk).mean(dim=-1, keepdim=True).expand(-1, 16))


@plant("attention", "e12_attention_bias", "instruments", "no bias reaches")
def the_bias_never_reaches_the_scores(patch: Patch) -> None:
    import contextlib

    patch.setattr(AttentionBias, "inside", lambda self, backbone, keep: contextlib.nullcontext())


# Masking.


@plant("masking", "e12_regularized", "dose", "tokens masked")
def the_mask_keeps_every_token(patch: Patch) -> None:
    real = masking.anatomy_tokens
    patch.setattr(classifier, "anatomy_tokens", lambda values, by: torch.ones_like(real(values, by=by)))


@plant("masking", "e12_regularized", "observed", "no mask was made")
def masking_acts_in_training_alone(patch: Patch) -> None:
    real = Classifier._spared
    patch.setattr(Classifier, "_spared", lambda s, t, masks: real(s, t, masks=masks) if s.training else None)


@plant("masking", "e12_regularized", "declared difference", "masking")
def masked_tokens_are_pooled_all_the_same(patch: Patch) -> None:
    patch.setattr(TokenMasking, "pooled", lambda self, tokens, keep: tokens)


# Schedule and optimiser.


@plant("schedule", "e08_layer_decay", "declared difference", "layer_decay")
def all_layers_learn_at_one_rate(patch: Patch) -> None:
    real = adaptation._groups
    patch.setattr(adaptation, "_groups", lambda backbone, lr, decay: real(backbone, lr=lr, decay=1.0))


@plant("schedule", "e02_frozen_probe", "observed", "rate applied")
def the_schedule_is_never_applied(patch: Patch) -> None:
    patch.setattr(Schedule, "apply", lambda self, optimiser, step: None)


@plant("schedule", "e02_frozen_probe", "observed", "rate applied", "train.warmup=1.0")
def there_is_no_warm_up(patch: Patch) -> None:
    real = Schedule.lr
    patch.setattr(Schedule, "lr", lambda self, peak, step: real(replace(self, warmup_steps=0), peak=peak, step=step))


@plant("schedule", "e02_frozen_probe", "observed", "weight decay")
def weights_do_not_decay(patch: Patch) -> None:
    real = optim.build_adamw
    patch.setattr(running, "build_adamw", lambda groups, weight_decay, **how: real(groups, weight_decay=0.0, **how))


@plant("schedule", "e02_frozen_probe", "observed", "weight decay", "train.decayed=matrices")
def biases_and_norms_decay_all_the_same(patch: Patch) -> None:
    real = optim.build_adamw
    patch.setattr(running, "build_adamw", lambda groups, decayed, **how: real(groups, decayed="all", **how))


@plant("schedule", "e02_frozen_probe", "dose", "without a gain is 12")
def patience_is_not_heeded(patch: Patch) -> None:
    patch.setattr(loop, "_patient", lambda stage, progress: True)


# Stages.


@plant("stages", "e08_multitask", "trainable parameters", "listed but frozen")
def a_listed_layer_stays_frozen(patch: Patch) -> None:
    real = Unfreeze.apply

    def apply(self: Unfreeze, backbone: nn.Module) -> tuple[ParameterGroup, ...]:
        groups = real(self, backbone)
        groups[0].parameters[0].requires_grad_(False)
        return groups

    patch.setattr(Unfreeze, "apply", apply)


@plant(
    "stages", "e09_staged", "trainable parameters (after training)", "did not start from the best", "then.0.epochs=1"
)
def a_second_stage_starts_from_scratch(patch: Patch) -> None:
    real = Trainer.fit

    def scratch(self: Trainer, stage: Any, **found: Any) -> Any:
        fit = real(self, stage, **found)
        if self.progress.stage:
            nn.init.normal_(self.model.head[1].weight)
        return fit

    patch.setattr(Trainer, "fit", scratch)


# Evaluation.


@plant("evaluation", "e02_frozen_probe", "observed", "in training mode")
def validation_is_scored_with_dropout(patch: Patch) -> None:
    patch.setattr(Classifier, "eval", lambda self: self.train())


@plant("evaluation", "e02_frozen_probe", "observed", "none of validation's")
def training_clips_are_scored_as_validation(patch: Patch) -> None:
    real = passes.Passes.logits

    def logits(self: passes.Passes, model: nn.Module, *observers: Any, **how: Any) -> Any:
        few = ClipDataset(self.clean.table.select(np.arange(len(self.val))), self.clean.store, masks=None)
        return real(replace(self, val=few), model, *observers, **how)

    patch.setattr(passes.Passes, "logits", logits)


@plant("evaluation", "e00_finetune", "observed", "short of the best", "train.epochs=3", "train.lr=1e-2")
def the_worst_epoch_is_kept(patch: Patch) -> None:
    patch.setattr(Selection, "better", lambda self, value, than: than is None or value <= than)
