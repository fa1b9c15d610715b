"""What a step of a stage would hold and compute, found without doing it: on tensors with a shape and no content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from calot.errors import CalotError
from calot.experiment import Experiment
from calot.models.classifier import Classifier
from calot.run.build import build_classifier
from calot.types import Batch, Tokens


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes that stay throughout and those of each clip in a training pass, and FLOP per clip.

    `weights` are in float32, `trained` those of them that have a gradient and two moments of AdamW. `activations` are
    what a pass keeps for its gradient. A multiplication and its addition are 2 FLOP.
    """

    weights: int
    trained: int
    activations: int
    forward: int
    backward: int


def stage_footprint(experiment: Experiment, *, stage: int, half: bool, cached: bool = False) -> Footprint:
    """Of a stage, in float32 or with autocast to a half precision; `cached`: with what is frozen read from a cache.

    The loss's own share is left out: it reads a few numbers per clip. Raises CalotError where the model needs the
    content of a clip to be built or run.
    """
    model = _adapted(experiment, stage=stage)
    weights = [p.numel() for p in model.parameters()]
    trained = [p.numel() for p in model.parameters() if p.requires_grad]
    try:
        one, two = (_kept(model, clips=n, half=half, cached=cached) for n in (1, 2))
        forward, backward = clip_flop(experiment, stage=stage, cached=cached)
    except RuntimeError as error:
        raise CalotError(
            f"{experiment.name}: its memory cannot be found without clips ({type(error).__name__}); use --dry-run, "
            "which measures"
        ) from error
    return Footprint(
        weights=4 * sum(weights), trained=4 * sum(trained), activations=two - one, forward=forward, backward=backward
    )


def _adapted(experiment: Experiment, *, stage: int) -> Classifier:
    model = build_classifier(experiment, weights=False)
    for earlier in experiment.stages[: stage + 1]:
        earlier.adapt(model.backbone)
    model.train()
    return model


def _clips(model: Classifier, *, count: int, cached: bool) -> Batch:
    """Clips of the model's shape, or what enters its first layer that trains."""
    spec, first = model.backbone.spec, model.backbone.first_trained
    videos = [torch.zeros(count, v.frames, 3, v.size, v.size, dtype=torch.uint8) for v in spec.views]
    batch = Batch.unlabelled(videos[0])
    if cached:
        tokens = spec.grid[0] * spec.grid[1] * spec.grid[2]
        batch = batch.with_tokens(Tokens(torch.zeros(count, tokens, spec.width), grid=spec.grid, entering=first))
    return batch


def _scores(model: Classifier, batch: Batch) -> Tensor:
    found = model(batch).scores.values()
    return torch.stack([s.float().sum() for s in found]).sum()


def _kept(model: Classifier, *, clips: int, half: bool, cached: bool) -> int:
    """Bytes that a forward pass keeps for the backward one, weights left out."""
    kept: dict[int, Tensor] = {}

    def keep(x: Any) -> Any:
        if not isinstance(x, torch.nn.Parameter) and hasattr(x, "fake_mode"):
            kept.setdefault(x.untyped_storage()._cdata, x)  # held, so that no other gets its number
        return x

    with FakeTensorMode(allow_non_fake_inputs=True), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            scores = _scores(model, _clips(model, count=clips, cached=cached))
        del scores
        return sum(x.untyped_storage().nbytes() for x in kept.values())


def clip_flop(experiment: Experiment, *, stage: int, cached: bool = False) -> tuple[int, int]:
    """FLOP of one clip in a stage, forward and backward."""
    with torch.device("meta"):
        model = _adapted(experiment, stage=stage)
        with FlopCounterMode(display=False) as counter:
            scores = _scores(model, _clips(model, count=1, cached=cached))
        forward = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            scores.backward()  # type: ignore[no-untyped-call]
    return forward, counter.get_total_flops()
