"""Backbone, pooling, head and segmentation decoder in one module: clips in, raw logits and mask scores out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor, nn

from calot.models.attention import tapped
from calot.models.backbones.protocol import Backbone
from calot.models.masking import Masking, anatomy_tokens, over_time, predicted_classes
from calot.types import Masks, Outputs, Tokens, at_least_float32


class Classifier(nn.Module):
    """Tap points, by name: `backbone`, `pooling.attention_map`, `pooling`, `head`, `segmentation`.

    Where no parameter of the backbone trains, it runs without a graph and in evaluation mode, also while training.
    `labelled_place` is where the labelled frame sits in a clip: the decoder reads its temporal bin where no mask says
    another. The queries and keys of `observed_layers` come out with the logits. `true_masks` lets true masks decide
    hard masking outside training too, for results that say so.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        pooling: nn.Module,
        head: nn.Module,
        segmentation: nn.Module | None = None,
        masking: Masking | None = None,
        labelled_place: int = -1,
        observed_layers: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.backbone, self.pooling, self.head = backbone, pooling, head
        self.segmentation, self.masking = segmentation, masking
        self.labelled_place, self.true_masks = labelled_place % backbone.spec.frames, False
        self.observed_layers = observed_layers

    @property
    def backbone_trains(self) -> bool:
        return any(p.requires_grad for p in self.backbone.parameters())

    def forward(self, video: Shaped[Tensor, "b t c h w"], *, masks: Masks | None = None) -> Outputs:
        with tapped(self.backbone, layers=self.observed_layers) as attention:
            tokens, keep = self._encode(video, masks=masks)
        scores = None
        if self.segmentation is not None and masks is not None:
            scores = self.segmentation(tokens, bins=self.backbone.spec.bin_of(masks.place))
        pooled = tokens if self.masking is None or keep is None else self.masking.pooled(tokens, keep)
        logits = at_least_float32(self.head(self.pooling(pooled)))
        return Outputs(logits=logits, tokens=tokens, segmentation=scores, kept=keep, attention=attention)

    def _encode(self, video: Tensor, *, masks: Masks | None) -> tuple[Tokens, Bool[Tensor, "b n"] | None]:
        """Tokens, and which of them hard masking keeps."""
        keep = None
        if self.masking is not None and self.masking.in_encoder:
            with torch.no_grad(), _evaluating(self.backbone):
                keep = self._keep(self.backbone(video), masks=masks)
        with contextlib.ExitStack() as around:
            if not self.backbone_trains:
                around.enter_context(torch.no_grad())
            if self.masking is not None and keep is not None:
                around.enter_context(self.masking.inside(self.backbone, keep))
            tokens = self.backbone(video)
        if self.masking is not None and keep is None:
            keep = self._keep(tokens, masks=masks)
        return tokens, keep

    @torch.no_grad()
    def _keep(self, tokens: Tokens, *, masks: Masks | None) -> Bool[Tensor, "b n"]:
        """The anatomy of the true masks where they may be used and a clip has one, else of the decoder's own."""
        assert self.segmentation is not None
        places_of_label = torch.full((len(tokens.values), 1), self.labelled_place, device=tokens.values.device)
        with _evaluating(self.segmentation):  # a mask is no place for dropout, nor a batch's statistics for this pass
            scores = self.segmentation(tokens, bins=self.backbone.spec.bin_of(places_of_label))
        places = anatomy_tokens(predicted_classes(scores))
        if masks is not None and (self.training or self.true_masks):
            places = torch.where(masks.complete[:, None], anatomy_tokens(masks.values), places)
        return over_time(places, bins=tokens.grid[0])

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        self.backbone.train(mode and self.backbone_trains)
        return self

    def parameter_counts(self) -> dict[str, int | dict[str, int]]:
        """`total` and `trainable`, and both by group; an adapter's weights are the group `lora`."""
        groups = dict.fromkeys(("lora", "pooling", "head", "segmentation", "backbone"), 0)
        training = dict(groups)
        for name, parameter in self.named_parameters():
            group = "lora" if ".lora_" in name else name.split(".")[0]
            groups[group] += parameter.numel()
            training[group] += parameter.numel() if parameter.requires_grad else 0
        counts = {"total": sum(groups.values()), "trainable": sum(training.values())}
        return {**counts, "groups": groups, "trainable_groups": training}


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode for a while."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
