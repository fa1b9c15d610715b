"""What the rest of calot asks of a backbone: what a clip must be, what its tokens are, and where its parts lie.

A family is one file beside this one: a frozen `BackboneSpec` that says all of it and builds the network. `Backbone`
holds the network and finds its parts by the family's `Layout`; no other module knows a network's own names.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor, nn

from calot.config.fields import Path, Range, Size
from calot.errors import CalotError
from calot.models.dropout import Regularised
from calot.types import Tokens

#: How `weights=None` is shown in files and pages.
RANDOM = "random"

Figures = tuple[float, float, float]

#: ImageNet's mean and deviation by channel, which most published weights were trained with.
IMAGENET_MEAN: Figures = (0.485, 0.456, 0.406)
IMAGENET_STD: Figures = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class View:
    """A clip as a backbone takes it: `frames` squares of `size` pixels, normalised by `mean` and `std` by channel."""

    frames: int
    size: int
    mean: Figures = IMAGENET_MEAN
    std: Figures = IMAGENET_STD

    def normalise(self, video: UInt8[Tensor, "b t c h w"], *, out: Tensor | None = None) -> Float[Tensor, "b t c h w"]:
        """`(video / 255 - mean) / std` in float32; fills `out` if given."""
        if out is None:
            out = torch.empty(video.shape, dtype=torch.float32, device=video.device)
        elif out.shape != video.shape or out.dtype != torch.float32:
            raise ValueError(f"normalise: out is {out.dtype} {tuple(out.shape)}, need float32 {tuple(video.shape)}")
        mean, std = (torch.tensor(figures, dtype=torch.float64) for figures in (self.mean, self.std))
        scale, shift = ((x.to(out)).view(-1, 1, 1) for x in (1 / (255 * std), -mean / std))
        return out.copy_(video).mul_(scale).add_(shift)

    def require(self, video: Tensor) -> None:
        """Raises CalotError for a clip of another length or size: its positions would be wrong."""
        t, _, h, w = video.shape[1:]
        if (t, h, w) != (self.frames, self.size, self.size):
            raise CalotError(
                f"a clip of {t} frames of {h} x {w} reached a backbone built for {self.frames} of "
                f"{self.size} x {self.size}: its positions would be wrong. Set backbone.size and backbone.frames."
            )


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a network keeps its parts, by dotted names: below the network, and below each of its layers.

    `attention`: what in a layer calls transformers' attention interface. `linears`: a layer's linears by role, the
    roles being q, k, v, proj (attention's output), fc1 and fc2.
    """

    layers: str
    embedding: str
    final_norm: str
    attention: str
    linears: Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """Where a parameter sits: `height` 0 is the embedding, 1 to L the layers, L + 1 the final norm; `part` is the same
    as a word (`embedding`, `layer.3`, `final_norm`), `role` that of its linear, if it has one. Outside the family's
    layout a parameter has no height, and the part is its own name."""

    height: int | None
    part: str
    role: str | None = None


@dataclass(frozen=True, kw_only=True)
class BackboneSpec(Regularised, ABC):
    """A family's settings: sizes, and where the weights come from (None: random ones, drawn from the run's seed).

    `size` is the side of the square input in pixels, `width` that of a token.
    """

    name: ClassVar[str]  # as files and pages give it
    layout: ClassVar[Layout]
    mean: ClassVar[Figures] = IMAGENET_MEAN
    std: ClassVar[Figures] = IMAGENET_STD

    weights: Path | None = None
    size: Annotated[int, Range(ge=1, le=4096)]
    frames: Annotated[int, Range(ge=1, le=1024)]
    width: Size
    layers: Annotated[int, Range(ge=1, le=1000)]

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int, int]:
        """Tokens along time, height and width."""

    @abstractmethod
    def build(self) -> Backbone:
        """The backbone with its weights. Raises CalotError when they cannot be obtained or do not fit this shape."""

    @abstractmethod
    def build_without_weights(self) -> Backbone:
        """The same module with untrained weights: for counts on the meta device, or to load a run's checkpoint."""

    @abstractmethod
    def encode(self, network: Any, video: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b n d"]:
        """A network of this family's tokens of normalised clips, in the order of `grid`: time, row, column."""

    @abstractmethod
    def at_tiny_scale(self) -> BackboneSpec:
        """The same architecture at the embedded size, with random weights: minutes on a CPU."""

    @abstractmethod
    def describe(self) -> str:
        """The family's name and its sizes, for files and pages."""

    @property
    def views(self) -> tuple[View, ...]:
        """What each of the tensors that make up a clip must be."""
        return (View(frames=self.frames, size=self.size, mean=self.mean, std=self.std),)

    @property
    def attention_parts(self) -> int:
        """How many parts of a clip attend only to themselves, in token order; 1 where all tokens see all."""
        return 1

    @property
    def extra_tokens(self) -> int:
        """Tokens in front of each part that have no position (class tokens, registers); `encode` leaves them out."""
        return 0

    def bin_of(self, place: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """The temporal bin that holds each of these frames of a clip."""
        return place * self.grid[0] // self.frames

    @classmethod
    def translated(cls, name: str, tensor: Tensor) -> Mapping[str, Tensor] | str | None:
        """A foreign tensor of this backbone under the network's own names; or why it has no place in it.

        `name` is free of wrappers, below the backbone. None where the name says nothing to this family.
        """
        parts = (cls.layout.layers, cls.layout.embedding, cls.layout.final_norm)
        found = re.fullmatch(rf"(?:\w+\.)*?((?:{'|'.join(map(re.escape, parts))})\..+)", name)
        return None if found is None else {found[1]: tensor}

    @classmethod
    def adapted_linear(cls, name: str) -> tuple[int, str] | None:
        """The layer and role of the linear whose adapter's tensor this is, by its name in the network."""
        layers = re.escape(cls.layout.layers)
        found = re.fullmatch(rf"{layers}\.(\d+)\.(.+)\.lora_\w+(?:\.\w+)*", name)
        roles = {place: role for role, place in cls.layout.linears.items()}
        return None if found is None or found[2] not in roles else (int(found[1]), roles[found[2]])


class Backbone(nn.Module):
    """A family's network as the rest of calot sees it: clips in, tokens out, parts by number and role.

    `adapter` is the low-rank adaptation it carries, if any.
    """

    model: Any

    def __init__(self, model: nn.Module, *, spec: BackboneSpec) -> None:
        super().__init__()
        self.model, self.spec = model, spec
        self.adapter: Any = None

    def forward(self, video: Shaped[Tensor, "b t c h w"]) -> Tokens:
        """Encode clips as stored (uint8), or already normalised (float). Raises CalotError for any other size."""
        (view,) = self.spec.views
        view.require(video)
        if not video.is_floating_point():
            video = view.normalise(video)
        video = video.to(next(self.parameters()).dtype)
        return Tokens(values=self.spec.encode(self.model, video), grid=self.spec.grid)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, in the order in which they run."""
        found: nn.ModuleList = self.model.get_submodule(self.spec.layout.layers)
        return found

    @property
    def embedding(self) -> nn.Module:
        return self.model.get_submodule(self.spec.layout.embedding)  # type: ignore[no-any-return]

    @property
    def final_norm(self) -> nn.Module:
        return self.model.get_submodule(self.spec.layout.final_norm)  # type: ignore[no-any-return]

    def attention(self, layer: int) -> nn.Module:
        """What calls the attention kernel in a layer."""
        return self.layers[layer].get_submodule(self.spec.layout.attention)

    def linear(self, layer: int, role: str) -> nn.Module:
        """A layer's linear as it acts, adapter included."""
        return self.layers[layer].get_submodule(self._name(role))

    def linear_shape(self, layer: int, role: str) -> tuple[int, int]:
        """Its input and output widths."""
        linear: Any = self.linear(layer, role)
        return linear.in_features, linear.out_features

    def linear_pattern(self, *, layers: Collection[int], roles: Collection[str]) -> str:
        """A regular expression for exactly these linears' names below the network, wherever that is wrapped."""
        numbers = "|".join(map(str, layers))
        names = "|".join(re.escape(self._name(role)) for role in roles)
        return rf"(?:.*\.)?{re.escape(self.spec.layout.layers)}\.(?:{numbers})\.(?:{names})"

    def place(self, name: str) -> Place:
        """Where one of this module's parameters sits, by its name here."""
        layout, below = self.spec.layout, name.removeprefix("model.")
        if found := re.match(rf"{re.escape(layout.layers)}\.(\d+)\.(.+)", below):
            number, inside = int(found[1]), found[2]
            role = next((r for r, n in layout.linears.items() if inside.startswith(f"{n}.")), None)
            return Place(number + 1, f"layer.{number}", role)
        if below.startswith(f"{layout.embedding}."):
            return Place(0, "embedding")
        if below.startswith(f"{layout.final_norm}."):
            return Place(len(self.layers) + 1, "final_norm")
        return Place(None, name)

    def height(self, name: str) -> int:
        """A parameter's height. Raises CalotError where the layout has no place for it: it is never treated as the
        embedding's, whose rate is the lowest."""
        found = self.place(name).height
        if found is None:
            raise CalotError(f"{type(self.spec).__name__}: {name} is in no part that the family's layout names")
        return found

    def checkpoint_gradients(self) -> None:
        """From now on keep only the input of each layer that trains, and recompute the rest for its gradient.

        Dropout and drop path draw the same again; the layers' seams are carried (`attention.py`).
        """
        self.model.activation_checkpointing_enable({"use_reentrant": False})

    def train(self, mode: bool = True) -> Backbone:
        """Layers in which nothing trains stay in evaluation mode: stochastic depth is only for layers that train."""
        super().train(mode)
        for layer in self.layers:
            layer.train(mode and any(p.requires_grad for p in layer.parameters()))
        return self

    def _name(self, role: str) -> str:
        linears = self.spec.layout.linears
        if role not in linears:
            raise CalotError(f"{self.spec.name} has no linear {role!r}; it has {', '.join(linears)}")
        return linears[role]
