"""A training step as calot takes it, loading and preparing included, against a bare step of transformers and peft."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F

from calot.bench.epochs import Epochs, footage_folder
from calot.bench.side_by_side import Contest, ExactnessCheck, Outcome, compete, one_torch_thread
from calot.models.adaptation import LoRA
from calot.models.backbones.view import View
from calot.train.loop import optimise
from calot.train.progress import Progress
from calot.types import Batch, Tokens

NAME = "e02_frozen_probe"
#: The study's, without what is drawn.
LORA = "LoRA(rank=16, alpha=32, dropout=0.0, targets=('q', 'v'), lr=1e-4)"
#: calot may take at most 1.03 times the bare step.
TARGET = 1 / 1.03
#: ViT-S over 8 frames of 128 x 128: large enough that a step is arithmetic, as at full size, and takes seconds.
SIZES = {"width": 384, "layers": 12, "heads": 6, "size": 128, "patch": 16}


def bench_train(
    *,
    data: Path | None = None,
    frames: int = 300,
    steps: int = 2,
    batch: int = 4,
    sizes: dict[str, int] | None = None,
    repeats: int = 5,
) -> Outcome:
    """Some steps of LoRA on queries and values without what is drawn, from equal weights on equal clips.

    The bare step has its clips in memory already, as float tensors of the usual expression; ours reads them from the
    frame store, prepares them and counts what a run counts.
    """
    given = ["backbone.weights=None"]
    given += [f"backbone.{key}={value}" for key, value in (SIZES if sizes is None else sizes).items()]
    changes = (*given, "head.dropout=0.0", "pooling.dropout=0.0", f"train.adaptation={LORA}", "augment=()")
    with footage_folder(data, frames=frames) as (root, scratch), one_torch_thread():
        epochs = Epochs.of(
            NAME, root=root, scratch=scratch, changes=(*changes, "protocol=AllFrames()", f"train.batch={batch}")
        )
        ours, bare = _Ours(epochs, steps=steps), _Bare.like(epochs, steps=steps)
        return compete(
            Contest(
                bench="train",
                work=f"{steps} steps of LoRA on {batch} clips, {epochs.trainer.model.backbone.spec.describe()}",
                naive_way="transformers and peft alone: forward, loss, backward, clipped norm, AdamW",
                our_way="calot.train.loop.optimise on Trainer.batches: store, preparation, finite checks, schedule",
                target=TARGET,
                repeats=repeats,
                plain=False,
                checks=lambda: _same_steps(ours, bare),
                naive=bare,
                ours=ours,
                settings=epochs.settings | {"steps": steps, "batch": batch},
            )
        )


@dataclass
class _Ours:
    """Each call takes the first steps of an epoch, from where the weights are."""

    epochs: Epochs
    steps: int

    def __call__(self) -> list[float]:
        trainer, fit, losses = self.epochs.trainer, self.epochs.fit, []
        trainer.progress = progress = Progress()
        fit.called.train()
        for _, batch in zip(range(self.steps), fit.data.batches(epoch=0, start=0), strict=False):
            losses.append(optimise(fit, batch, progress=progress))
        return losses


@dataclass
class _Bare:
    """The same as a script has it; each call takes the same steps."""

    encoder: nn.Module
    pooling: nn.Module
    head: nn.Module
    optimiser: torch.optim.Optimizer
    rates: Callable[[int], list[float]]
    batches: list[Batch]
    grid: tuple[int, int, int]
    view: View

    @classmethod
    def like(cls, epochs: Epochs, *, steps: int) -> _Bare:
        """With copies of a trainer's weights, and its first clips."""
        model, stage = epochs.trainer.model, epochs.fit.stage
        adaptation = stage.adaptation
        assert isinstance(adaptation, LoRA)
        encoder = _adapted_encoder(model.backbone, adaptation)
        parts: dict[str, nn.Module] = {}
        for name in ("pooling", "head"):
            spec = model.pooled_by if name == "pooling" else model.heads[name]
            parts[name] = spec.build(width=model.backbone.spec.width)
            parts[name].load_state_dict(model.get_submodule(name).state_dict())
        groups = [
            {"params": [p for p in encoder.parameters() if p.requires_grad], "lr": adaptation.lr},
            *({"params": [*part.parameters()], "lr": stage.lr} for part in parts.values()),
        ]
        peaks, schedule = [adaptation.lr, stage.lr, stage.lr], epochs.fit.schedule
        return cls(
            encoder=encoder,
            optimiser=torch.optim.AdamW(groups, weight_decay=stage.weight_decay),
            rates=lambda step: [schedule.lr(peak=peak, step=step) for peak in peaks],
            batches=[b for _, b in zip(range(steps), epochs.fit.data.batches(epoch=0, start=0), strict=False)],
            grid=model.backbone.spec.grid,
            view=model.backbone.spec.views[0],
            **parts,
        )

    def __call__(self) -> list[float]:
        losses = []
        for step, batch in enumerate(self.batches):
            for group, rate in zip(self.optimiser.param_groups, self.rates(step), strict=True):
                group["lr"] = rate
            tokens = self.encoder(
                pixel_values_videos=_normalised(batch.video, self.view), skip_predictor=True
            ).last_hidden_state
            pooled = self.pooling(Tokens(tokens, grid=self.grid))
            loss = F.binary_cross_entropy_with_logits(self.head(pooled), batch.labels)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([p for g in self.optimiser.param_groups for p in g["params"]], 1.0)
            self.optimiser.step()
            self.optimiser.zero_grad()
            losses.append(loss.item())
        return losses


def _normalised(video: Tensor, view: View) -> Tensor:
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (view.mean, view.std))
    return (video.float() / 255 - mean) / std


def _adapted_encoder(backbone: Any, adaptation: LoRA) -> nn.Module:
    """transformers' encoder under peft's LoRA, with a backbone's weights."""
    spec = backbone.spec
    made, network = (getattr(transformers, name) for name in spec.classes)
    config = made(**spec.shape(), **spec.settings(), **spec.dropped, attn_implementation="sdpa")
    lora = LoraConfig(
        r=adaptation.rank,
        lora_alpha=adaptation.alpha,
        lora_dropout=0.0,
        target_modules=backbone.linear_pattern(layers=range(spec.layers), roles=adaptation.targets),
    )
    model: nn.Module = get_peft_model(network(config), lora)
    theirs = {name.removeprefix("model."): tensor for name, tensor in backbone.state_dict().items()}
    missing = model.base_model.model.load_state_dict(theirs, strict=False)  # type: ignore[union-attr]
    assert not missing.unexpected_keys, missing
    assert all(name.startswith("predictor.") for name in missing.missing_keys), missing
    return model


def _same_steps(ours: _Ours, bare: _Bare) -> tuple[ExactnessCheck, ...]:
    """The first steps of both from equal weights: losses, and the adapters that follow."""
    losses = np.abs(np.subtract(ours(), bare()))
    mine = {n: p for n, p in ours.epochs.trainer.model.backbone.named_parameters() if ".lora_" in n}
    theirs = {n: p for n, p in bare.encoder.named_parameters() if ".lora_" in n}
    apart = [float((p - theirs[f"base_model.{n}"]).detach().abs().max()) for n, p in mine.items()]
    return (
        ExactnessCheck(what="losses of the first steps", difference=float(losses.max()), tolerance=1e-5),
        ExactnessCheck(what="adapters after them", difference=max(apart), tolerance=1e-5),
    )
