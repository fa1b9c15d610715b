"""What the encoders of the V-JEPA 2 line share: transformers' own layers, and what an experiment changes in them."""

from __future__ import annotations

import pathlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from calot.config.fields import FractionBelowOne, Since
from calot.identity import user_path
from calot.models.backbones.additions import Pruning, Pyramid, Skips, WindowAttention
from calot.models.backbones.official import Kind, encoder_names, read_official
from calot.models.backbones.protocol import FRESH, Backbone, Layout
from calot.models.backbones.vision_transformer import VideoTransformer
from calot.models.checkpoints import ReadFrom, find_weights, official_file
from calot.models.windows import turned_off, windows_in

#: Endings of single files of official names.
_FILES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class JEPAEncoder(VideoTransformer):
    """A stack of rotary layers over tubes, which an experiment may prune, window, skip and join.

    `drop_path`: stochastic depth of the last layer (Huang et al. 2016), growing linearly from 0 at the first.
    `pruning`: the `layers` are some of those that the weights have. `windows`, `skips`, `pyramid`: see `additions.py`.
    """

    rotary = True
    #: What the family's official files are.
    official: ClassVar[Kind]
    #: The weights that come with calot for the tiny scale, if any.
    embedded: ClassVar[str | None] = None
    layout = Layout(
        layers="encoder.layer",
        embedding="encoder.embeddings",
        final_norm="encoder.layernorm",
        attention="attention",
        linears={
            "q": "attention.query",
            "k": "attention.key",
            "v": "attention.value",
            "proj": "attention.proj",
            "fc1": "mlp.fc1",
            "fc2": "mlp.fc2",
        },
    )

    drop_path: FractionBelowOne = 0.0
    pruning: Annotated[Pruning | None, Since("0.2.0")] = None
    windows: Annotated[WindowAttention | None, Since("0.2.0")] = None
    skips: Annotated[Skips | None, Since("0.2.0")] = None
    pyramid: Annotated[Pyramid | None, Since("0.2.0")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pruning is not None and self.layers > self.pruning.of:
            raise ValueError(f"layers={self.layers} are more than the {self.pruning.of} of pruning.of")
        if self.windows is not None:
            self.windows.require(self.grid)
        into = self.skips.targets if self.skips else ()
        below = self.pyramid.layers if self.pyramid else ()
        if wrong := [n for n in (*into, *(n + 1 for n in below)) if n >= self.layers]:
            raise ValueError(f"layers={self.layers}: skips or pyramid reach layer {wrong[0]}, which is not there")

    @abstractmethod
    def turns(self, network: Any, hidden: Float[Tensor, "b n d"]) -> Any:
        """What a layer is given beside its input, to turn queries and keys by their places."""

    @property
    def depth_of_weights(self) -> int:
        """How many layers the weights have."""
        return self.layers if self.pruning is None else self.pruning.of

    def shape(self) -> dict[str, Any]:
        return super().shape() | {"mlp_ratio": self.mlp_ratio, "num_hidden_layers": self.depth_of_weights}

    def settings(self) -> dict[str, Any]:
        return {"crop_size": self.size, "frames_per_clip": self.frames, "drop_path_rate": self.drop_path}

    def assembled(self, model: Any) -> Any:
        encoder = model.encoder
        if self.pruning is not None:
            encoder.layer = nn.ModuleList(encoder.layer[n] for n in self.pruning.kept(self.layers))
        parts: dict[str, nn.Module] = {}
        if self.windows is not None:
            numbers = self.windows.numbers(self.layers)
            gates = self.windows.fresh(depth=self.layers, heads=self.heads)
            self.windows.install({n: encoder.layer[n].attention for n in numbers}, grid=self.grid, gates=gates)
            parts |= {} if gates is None else {"windows": gates}
        parts |= {} if self.skips is None else {"skips": self.skips.build(width=self.width)}
        parts |= {} if self.pyramid is None else {"pyramid": self.pyramid.build(width=self.width)}
        parts |= self.own_fresh(model)
        if parts:
            model.add_module(FRESH, nn.ModuleDict(parts))
        return model

    def own_fresh(self, model: Any) -> dict[str, nn.Module]:
        """Further parts that no weights hold, by name, taken out of a whole model."""
        return {}

    def encode(self, network: Any, video: Tensor) -> Tensor:
        return self.through(network, network.encoder.embeddings(video))

    @property
    def undivided(self) -> str | None:
        beyond = self.skips or self.pyramid
        return None if beyond is None else f"{type(beyond).__name__} carries what lower layers give past the others"

    def below(self, network: Any, video: Tensor, *, layer: int) -> Tensor:
        hidden: Tensor = network.encoder.embeddings(video)
        turns = self.turns(network, hidden)
        for lower in network.encoder.layer[:layer]:
            hidden = lower(hidden, turns)[0]
        return hidden

    def above(self, network: Any, hidden: Tensor, *, layer: int) -> Tensor:
        return self.through(network, hidden, first=layer)

    def through(self, network: Any, hidden: Float[Tensor, "b n d"], *, first: int = 0) -> Float[Tensor, "b n d"]:
        """What layers from `first` on and the final norm make of what enters them, skips and pyramid included."""
        fresh, levels = dict(network.named_children()).get(FRESH, {}), dict[int, Tensor]()
        read = {*(self.skips.sources if self.skips else ()), *(self.pyramid.layers if self.pyramid else ())}
        turns = self.turns(network, hidden)
        for number, layer in enumerate(network.encoder.layer[first:], start=first):
            if self.skips is not None:
                hidden = fresh["skips"].entering(number, hidden, levels)
            hidden = layer(hidden, turns)[0]
            if number in read:
                levels[number] = hidden
        last: Tensor = network.encoder.layernorm(hidden)
        return last if self.pyramid is None else fresh["pyramid"](last, levels)

    def switches(self, network: Any) -> Mapping[str, Callable[[], AbstractContextManager[None]]]:
        found: dict[str, Callable[[], AbstractContextManager[None]]] = {}
        if self.windows is not None:
            found["windows"] = partial(turned_off, windows_in(network))
        for name in ("skips", "pyramid"):
            if getattr(self, name) is not None:
                found[name] = partial(turned_off, [network.get_submodule(FRESH)[name]])
        return found

    def at_tiny_scale(self) -> JEPAEncoder:
        plain = replace(self, pruning=None, windows=None, skips=None, pyramid=None)
        small: Any = super(JEPAEncoder, plain).at_tiny_scale()
        depth, whole = small.layers, self.depth_of_weights
        layers = max(1, round(self.layers * depth / whole))
        numbers = {"layers": layers, "of": self.layers}
        sides = {"side": small.grid[1], "of_side": self.grid[1]}
        tiny: JEPAEncoder = replace(
            small,
            weights=None if self.weights is None else self.embedded,
            layers=layers,
            pruning=None if self.pruning is None else replace(self.pruning, of=depth),
            windows=None if self.windows is None else self.windows.scaled(**numbers, **sides),
            skips=None if self.skips is None else self.skips.scaled(**numbers),
            pyramid=None if self.pyramid is None else self.pyramid.scaled(**numbers),
        )
        return tiny

    def sizes(self) -> str:
        changed = (self.pruning, self.windows, self.skips, self.pyramid)
        return ", ".join([super().sizes(), *(str(x) for x in changed if x is not None)])

    def build(self) -> Backbone:
        if self.weights is None:
            return super().build()
        place = user_path(pathlib.Path(self.weights))
        path = official_file(place if place.suffix in _FILES else find_weights(self.weights))
        if path is None:
            return super().build()
        whole = self.untrained()
        held = read_official(path, kind=self.official, names=self.official_names, expected=whole.encoder.state_dict())
        whole.encoder.load_state_dict(held.tensors)
        return Backbone(self.assembled(whole), spec=self, read_from=ReadFrom(files=(path,), key=held.key))

    def official_names(self, name: str, tensor: Tensor) -> Mapping[str, Tensor]:
        """A tensor of an official file's encoder under the names of ours; none where it is not used."""
        return encoder_names(name, tensor)
