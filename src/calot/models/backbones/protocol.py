"""What the rest of calot asks of a backbone: what a clip must be, what its tokens are, and where its parts lie.

A family is one file beside this one: a frozen `BackboneSpec` that says all of it and builds the network. `Backbone`
holds the network and finds its parts by the family's `Layout`; no other module knows a network's own names.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from calot.config.fields import Path, Range, Size
from calot.errors import CalotError
from calot.models.backbones.place import Place
from calot.models.backbones.prediction import Predicting
from calot.models.backbones.sharing import Sharing
from calot.models.backbones.view import IMAGENET_MEAN, IMAGENET_STD, Figures, View
from calot.models.checkpoints import ReadFrom
from calot.models.dropout import Regularised
from calot.types import Hidden, Predicted, QueryKey, Tokens

#: How `weights=None` is shown in files and pages.
RANDOM = "random"

#: The child of a network that holds what no published weights do: gates, projections that join parts.
FRESH = "fresh"
#: The part of it that guesses hidden tokens. Published weights may hold this one.
PREDICTOR = "predictor"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a network keeps its parts, by dotted names: below the network, and below each of its layers.

    `attention`: what in a layer calls transformers' attention interface; None where nothing does, so that attention can
    be neither read nor biased. `linears`: a layer's linears by role, the roles being q, k, v, proj (attention's
    output), fc1 and fc2.
    """

    layers: str
    embedding: str
    final_norm: str
    attention: str | None
    linears: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class BackboneSpec(Predicting, Sharing, Regularised, ABC):
    """A family's settings: sizes, and where the weights come from (None: random ones, drawn from the run's seed).

    `size` is the side of the square input in pixels, `width` that of a token.
    """

    name: ClassVar[str]  # as files and pages give it
    layout: ClassVar[Layout]
    mean: ClassVar[Figures] = IMAGENET_MEAN
    std: ClassVar[Figures] = IMAGENET_STD
    rotary: ClassVar[bool] = False  # queries and keys are turned by their places, between linears and kernel

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
        """The same architecture at the embedded size: minutes on a CPU. Its weights are random where calot has none."""

    @abstractmethod
    def describe(self) -> str:
        """The family's name and its sizes, for files and pages."""

    @property
    def published(self) -> bool:
        """Whether all its weights but fresh parts come from a place that can be read again; random ones do not."""
        return self.weights is not None

    @property
    def views(self) -> tuple[View, ...]:
        """What each of the tensors that make up a clip must be."""
        return (View(frames=self.frames, size=self.size, mean=self.mean, std=self.std),)

    @property
    def inner(self) -> BackboneSpec | None:
        """The network that stands in the place of an embedding, where it is a backbone by itself."""
        return None

    @property
    def beside(self) -> int:
        """Width of the vector that stands beside a clip's tokens; 0 where there is none."""
        return 0

    def grid_of(self, layer: int) -> tuple[int, int, int]:
        """The token grid on which a layer attends."""
        return self.grid

    @property
    def attention_parts(self) -> int:
        """How many parts of a clip attend only to themselves, in token order; 1 where all tokens see all."""
        return 1

    @property
    def extra_tokens(self) -> int:
        """Tokens in front of each part that have no position (class tokens, registers); `encode` leaves them out."""
        return 0

    @property
    def undivided(self) -> str | None:
        """Why its layers cannot be run in two goes, by `below` and `above`; None where they can."""
        return f"{self.name} runs all its layers in one go"

    def below(self, network: Any, video: Float[Tensor, "b t c h w"], *, layer: int) -> Float[Tensor, "b n d"]:
        """What enters a layer (from 0; the depth: the final norm) of normalised clips."""
        raise NotImplementedError(self.undivided)

    def above(self, network: Any, hidden: Float[Tensor, "b n d"], *, layer: int) -> Float[Tensor, "b n d"]:
        """What `encode` gives, from what enters a layer."""
        raise NotImplementedError(self.undivided)

    def placed(self, hidden: Float[Tensor, "_ _ d"]) -> Float[Tensor, "b n d"]:
        """What a layer gives, as one row of tokens per clip, extra tokens left out."""
        kept = hidden[:, self.extra_tokens :]
        return kept.reshape(-1, self.attention_parts * kept.shape[1], kept.shape[2])

    def level(self, network: Any, hidden: Float[Tensor, "b n d"], *, layer: int) -> Float[Tensor, "b n d"]:
        """A layer's output as a pooling of several layers reads it."""
        return hidden

    def switches(self, network: Any) -> Mapping[str, Callable[[], AbstractContextManager[None]]]:
        """By name, what turns off a part that this family adds to a plain network, for as long as it is open."""
        return {}

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


def no_seam(spec: BackboneSpec) -> str:
    """Why a family's attention can be neither trained on nor biased, and what to do."""
    said = f"{spec.name} has no seam into its attention, which can be neither trained on nor biased: take a loss and a "
    return f"{said}masking that leave attention alone, or another backbone"


class Backbone(nn.Module):
    """A family's network as the rest of calot sees it: clips in, tokens out, parts by number and role.

    `adapter` is the low-rank adaptation it carries, if any; `read_from`: where its weights lay, if not random.
    """

    model: Any

    def __init__(self, model: nn.Module, *, spec: BackboneSpec, read_from: ReadFrom | None = None) -> None:
        super().__init__()
        self.model, self.spec, self.read_from = model, spec, read_from
        self.adapter: Any = None

    def forward(self, video: Shaped[Tensor, "b t c h w"]) -> Tokens:
        """Encode clips as stored (uint8), or already normalised (float). Raises CalotError for any other size."""
        return Tokens(values=self.spec.encode(self.model, self._ready(video)), grid=self.spec.grid)

    def predict(self, video: Shaped[Tensor, "b t c h w"], *, hidden: Mapping[str, Hidden]) -> Predicted:
        """What a predictor makes of hidden tokens from those that are shown. Needs `spec.predicts`."""
        return Predicted(self.spec.predicted(self.model, self._ready(video), hidden=hidden))

    def below(self, video: Shaped[Tensor, "b t c h w"], *, layer: int) -> Tokens:
        """The same as far as what enters a layer (from 0; the depth: the final norm). See `spec.undivided`."""
        hidden = self.spec.below(self.model, self._ready(video), layer=layer)
        return Tokens(values=hidden, grid=self.spec.grid, entering=layer)

    def above(self, tokens: Tokens) -> Tokens:
        """The output, from what enters a layer."""
        if tokens.entering is None:
            return tokens
        hidden = tokens.values.to(next(self.parameters()).dtype)
        return replace(tokens, values=self.spec.above(self.model, hidden, layer=tokens.entering), entering=None)

    def _ready(self, video: Tensor) -> Tensor:
        (view,) = self.spec.views
        view.require(video)
        if not video.is_floating_point():
            video = view.normalise(video)
        return video.to(next(self.parameters()).dtype)

    @property
    def first_trained(self) -> int | None:
        """The lowest layer in which a parameter trains (the depth: only the final norm does), -1 where one trains below
        or beside the layers, None where none does."""
        heights = [self.place(name).height for name, p in self.named_parameters() if p.requires_grad]
        return min((-1 if height is None else height - 1 for height in heights), default=None)

    def parts_below(self, layer: int) -> tuple[nn.Module, ...]:
        """All that acts before a layer."""
        return (self.embedding, *(module for number in range(layer) for module in self.modules_of(number)))

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, in the order in which they run."""
        found: nn.ModuleList = self.model.get_submodule(self.spec.layout.layers)
        return found

    @property
    def embedding(self) -> nn.Module:
        return self.model.get_submodule(self.spec.layout.embedding)  # type: ignore[no-any-return]

    @property
    def fresh(self) -> tuple[nn.Parameter, ...]:
        """Parameters of parts that no published weights hold: they train whatever the adaptation (`Stage.adapt`)."""
        parts = dict(self.model.named_children()).get(FRESH)
        return () if parts is None else tuple(parts.parameters())

    @property
    def final_norm(self) -> nn.Module:
        return self.model.get_submodule(self.spec.layout.final_norm)  # type: ignore[no-any-return]

    def attention(self, layer: int) -> nn.Module:
        """What calls the attention kernel in a layer. Raises CalotError for a family without a seam there."""
        if self.spec.layout.attention is None:
            raise CalotError(no_seam(self.spec))
        return self.layers[layer].get_submodule(self.spec.layout.attention)

    def watching(self, layer: int, tap: Callable[[QueryKey], None]) -> AbstractContextManager[None] | None:
        """What calls `tap` with a layer's queries and keys, of a family that is read without a seam; else None."""
        return None

    @property
    def inner(self) -> Backbone | None:
        """The backbone in the place of the embedding, if there is one."""
        return None

    def modules_of(self, layer: int) -> tuple[nn.Module, ...]:
        """All that belongs to a layer: itself, and what a family puts in front of it."""
        return (self.layers[layer],)

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
        if below.startswith(f"{FRESH}."):
            return Place(None, FRESH)
        return Place(None, name)

    @contextmanager
    def levels(self, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
        """The outputs of some layers, under the numbers given, of the latest pass while this is open."""
        found: dict[int, Tensor] = {}

        def keep(number: int, given: Any) -> None:
            tokens = self.spec.placed(given[0] if isinstance(given, tuple) else given)
            found[number] = self.spec.level(self.model, tokens, layer=number)

        handles = [self.layers[n].register_forward_hook(lambda _m, _i, given, n=n: keep(n, given)) for n in layers]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()

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
