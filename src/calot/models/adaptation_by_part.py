"""An adaptation for each part of a backbone that is made of two networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from calot.errors import CalotError
from calot.models.adaptation import Adaptation, Frozen, LoRA, ParameterGroup
from calot.models.backbones.place import Place
from calot.models.backbones.protocol import Backbone, BackboneSpec


@dataclass(frozen=True, kw_only=True)
class InParts(Adaptation):
    """`frames` adapts the network in the place of an embedding, `blocks` the numbered layers; only for a backbone
    that has both."""

    frames: Adaptation = Frozen()
    blocks: Adaptation = LoRA()

    def apply(self, backbone: Backbone) -> tuple[ParameterGroup, ...]:
        inner = _inner_of(backbone)
        groups = self.blocks.apply(backbone)
        of_frames = set(inner.parameters())
        own = [replace(g, parameters=tuple(p for p in g.parameters if p not in of_frames)) for g in groups]
        frames = [replace(g, name=f"frames.{g.name}") for g in self.frames.apply(inner)]
        return (*own, *frames)

    def declared(self, backbone: Backbone) -> dict[str, int]:
        inner = _inner_of(backbone)
        counts: Mapping[str, int] = self.blocks.declared(backbone)
        embedding = sum(self.frames.declared(inner).values())
        if "embedding" in counts:  # less the inner network, which the blocks' adaptation never touches
            embedding += counts["embedding"] - sum(p.numel() for p in inner.parameters())
        own = {part: count for part, count in counts.items() if part != "embedding"}
        return own | ({"embedding": embedding} if embedding else {})

    def unfit(self, spec: BackboneSpec) -> str | None:
        return _no_parts(spec) if spec.inner is None else None

    def target_of(self, place: Place) -> str:
        return place.part if place.height == 0 else self.blocks.target_of(place)

    def at_depth(self, *, layers: int, of: int) -> InParts:
        return replace(self, blocks=self.blocks.at_depth(layers=layers, of=of))


def _inner_of(backbone: Backbone) -> Backbone:
    if backbone.inner is None:
        raise CalotError(_no_parts(backbone.spec))
    return backbone.inner


def _no_parts(spec: BackboneSpec) -> str:
    return f"InParts adapts a backbone of two networks; {spec.name} has no such parts: name one adaptation"
