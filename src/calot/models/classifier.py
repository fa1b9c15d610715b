"""Backbone, pooling and heads in one module: `encode` gives tokens, `classify` reads them, a call does both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from calot.errors import CalotError
from calot.models.attention import tapped
from calot.models.backbones.protocol import Backbone
from calot.models.heads import Features, Head, reached
from calot.models.masking import Masking, anatomy_tokens, over_time, predicted_classes
from calot.models.pooling import Pooling
from calot.models.segmentation import SegmentationDecoder
from calot.types import CRITERIA_HEAD, Batch, Masks, Outputs, Predicted, Tokens, at_least_float32


class Classifier(nn.Module):
    """Tap points, by name: `backbone`, `pooling.attention_map`, `pooling`, and each head under its own name.

    Where no parameter of the backbone trains, it runs without a graph and in evaluation mode, also while training.
    `labelled_place` is where the labelled frame sits in a clip: the decoder reads its temporal bin unless a mask names
    another. The queries and keys of `observed_layers` come out with the tokens. `true_masks` lets true masks decide
    hard masking outside training too, for results that declare it.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        pooling: Pooling,
        heads: Sequence[Head],
        masking: Masking | None = None,
        labelled_place: int = -1,
        observed_layers: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        width = backbone.spec.width
        self.backbone, self.pooling = backbone, pooling.build(width=width)
        self.pooled_by = pooling
        self.heads = {head.name: head for head in heads}
        if len(self.heads) < len(heads):
            raise ValueError(f"heads {[head.name for head in heads]}: two of one name")
        for name, head in self.heads.items():
            if hasattr(self, name):
                raise ValueError(f"a head cannot be called {name!r}: the classifier has something of that name")
            pooled = pooling.width_of(width) + backbone.spec.beside
            self.add_module(name, head.build(width=width if head.reads_tokens else pooled))
        self.masking = masking
        self.labelled_place, self.true_masks = labelled_place % backbone.spec.frames, False
        self.observed_layers, self.pooled_layers = observed_layers, pooling.reads_layers

    @property
    def backbone_trains(self) -> bool:
        return any(p.requires_grad for p in self.backbone.parameters())

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Backbone, pooling and heads, by the prefix of their parameters' names."""
        return {name: self.get_submodule(name) for name in ("backbone", "pooling", *self.heads)}

    def reached(self, parts: frozenset[str]) -> frozenset[str]:
        """Of the parts that a loss may reach, those that its gradient gets to in this model."""
        return reached(parts, heads=self.heads, pooling=self.pooled_by)

    def forward(self, batch: Batch) -> Outputs | Predicted:
        """Both steps, or the prediction of tokens that the batch hides. A model inside a wrapper that trains it (DDP)
        is called, so that the wrapper sees the call."""
        if batch.hidden:
            return self.backbone.predict(batch.video, hidden=batch.hidden)
        return self.classify(self.encode(batch), masks=batch.masks)

    def encode(self, batch: Batch) -> Tokens:
        """The clips' tokens, from their frames, from what enters a layer, or as the batch brought them with it.

        Raises CalotError where those cannot stand in for the encoder's own.
        """
        if batch.tokens is not None:
            self._require_whole(batch.tokens)
            if batch.tokens.entering is None:
                return batch.tokens
        spared = None
        with contextlib.ExitStack() as around:
            attention = around.enter_context(tapped(self.backbone, layers=self.observed_layers))
            if self.masking is not None and self.masking.in_encoder:
                with torch.no_grad(), _evaluating(self.backbone):
                    spared = self._spared(self.backbone(batch.video), masks=batch.masks)
                around.enter_context(self.masking.inside(self.backbone, spared))
            if not self.backbone_trains:
                around.enter_context(torch.no_grad())
            levels = around.enter_context(self.backbone.levels(self.pooled_layers))
            tokens: Tokens = self.backbone(batch.video) if batch.tokens is None else self.backbone.above(batch.tokens)
        return replace(tokens, spared=spared, attention=attention, levels=dict(levels) or None)

    def classify(self, tokens: Tokens, *, masks: Masks | None = None) -> Outputs:
        """Every head's scores. The criteria's head comes last, so that no other head changes its random draws."""
        kept = tokens.spared
        if self.masking is not None and kept is None:
            kept = self._spared(tokens, masks=masks)
        seen = tokens if self.masking is None or kept is None else self.masking.pooled(tokens, kept)
        bin_of = self.backbone.spec.bin_of

        def pool() -> Tensor:
            pooled: Tensor = self.pooling(seen)
            return pooled if seen.beside is None else torch.cat([pooled, seen.beside.to(pooled.dtype)], dim=-1)

        features = Features(tokens=tokens, masks=masks, bin_of=bin_of, pool=pool)
        scores = {}
        last = [CRITERIA_HEAD] if CRITERIA_HEAD in self.heads else []
        for name in [*(n for n in self.heads if n != CRITERIA_HEAD), *last]:
            found = self.heads[name].read(self.get_submodule(name), features)
            if found is not None:
                scores[name] = at_least_float32(found)
        return Outputs(scores=scores, tokens=tokens, kept=kept)

    def _require_whole(self, tokens: Tokens) -> None:
        """Cached tokens must miss nothing that happens inside the encoder before them."""
        inside = self.masking is not None and self.masking.in_encoder
        depth, first = len(self.backbone.layers), self.backbone.first_trained
        done = depth + 1 if tokens.entering is None else tokens.entering
        missed = [
            *(["the backbone trains"] if first is not None and first < done else []),
            *(["masking acts inside the encoder"] if inside and tokens.spared is None else []),
            *(f"layer {n}'s attention is read" for n in self._before(done, self.observed_layers, tokens.attention)),
            *(f"layer {n}'s output is pooled" for n in self._before(done, self.pooled_layers, tokens.levels)),
        ]
        if missed:
            raise CalotError(f"a batch of tokens in place of video, but {missed[0]}: give it the clips' frames")

    def _before(self, done: int, layers: Sequence[int], held: Mapping[int, object] | None) -> list[int]:
        """Layers whose output is in the past of what enters layer `done`, and is not held."""
        return [n for n in layers if n % len(self.backbone.layers) < done and n not in (held or {})]

    @property
    def _decoder(self) -> SegmentationDecoder:
        """The head whose masks decide hard masking."""
        for module in self.parts.values():
            if isinstance(module, SegmentationDecoder):
                return module
        raise CalotError("hard masking needs a segmentation decoder among the heads: its masks decide outside training")

    @torch.no_grad()
    def _spared(self, tokens: Tokens, *, masks: Masks | None) -> Bool[Tensor, "b n"]:
        """The anatomy of the true masks where they may be used and a clip has one, else of the decoder's own."""
        decoder = self._decoder
        place = torch.full((len(tokens.values), 1), self.labelled_place, device=tokens.values.device)
        with _evaluating(decoder):  # no dropout in a mask, and no batch statistics from this pass
            scores = decoder(tokens, bins=self.backbone.spec.bin_of(place))
        by = "any pixel" if self.masking is None else self.masking.patches
        places = anatomy_tokens(predicted_classes(scores), by=by)
        if masks is not None and (self.training or self.true_masks):
            places = torch.where(masks.complete[:, None], anatomy_tokens(masks.values, by=by), places)
        return over_time(places, bins=tokens.grid[0])

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        self.backbone.train(mode and self.backbone_trains)
        return self

    def parameter_counts(self) -> dict[str, int | dict[str, int]]:
        """`total` and `trainable`, and both by group; an adapter's weights are the group `lora`."""
        groups = dict.fromkeys(("lora", "pooling", *self.heads, "backbone"), 0)
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
