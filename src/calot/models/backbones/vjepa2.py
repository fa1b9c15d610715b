"""V-JEPA 2's encoder (Assran et al. 2025), through transformers' `VJEPA2Model`; its predictor only to pretrain."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar

from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from calot.config.fields import FractionBelowOne, Path, Since
from calot.models.backbones.additions import Pruning, Pyramid, Skips, WindowAttention
from calot.models.backbones.predictor import Predictor, predicted_tokens
from calot.models.backbones.protocol import FRESH, PREDICTOR, Backbone, Layout
from calot.models.backbones.vision_transformer import VideoTransformer
from calot.models.checkpoints import (
    EMBEDDED,
    find_weights,
    official_encoder_names,
    official_file,
    read_official_encoder,
)
from calot.models.windows import turned_off, windows_in
from calot.types import Hidden

#: A tensor of the official encoder, below any prefix.
_OFFICIAL = re.compile(r"(?:(?:model|encoder)\.)*((?:blocks|patch_embed|norm)\..+|pos_embed)")

#: Endings of single files of official names.
_FILES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class VJEPA2(VideoTransformer):
    """The encoder's shape and where its weights come from. Defaults: ViT-L, 16 frames of 256 x 256.

    `weights`: a hub id, a local folder, an official `.pt` file, `calot/tiny` (the tiny scale's, which come with
    calot), or None for random weights (drawn from the run's seed, and stated in every report). `drop_path`: stochastic
    depth of the last layer (Huang et al. 2016), growing linearly from 0 at the first.

    `pruning`: the `layers` are some of those that the weights have. `windows`, `skips`, `pyramid`: see `additions.py`.
    `predictor`: what pretraining trains beside the encoder; its weights, too, where they hold one, else random ones.
    """

    name = "V-JEPA 2 encoder"
    classes = ("VJEPA2Config", "VJEPA2Model")
    rotary = True
    dropped: ClassVar[Mapping[str, Any]] = {"pred_num_hidden_layers": 1}
    may_lack: ClassVar[tuple[str, ...]] = (f"{PREDICTOR}.",)
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

    weights: Path | None = "facebook/vjepa2-vitl-fpc16-256-ssv2"
    drop_path: FractionBelowOne = 0.0
    pruning: Annotated[Pruning | None, Since("0.2.0")] = None
    windows: Annotated[WindowAttention | None, Since("0.2.0")] = None
    skips: Annotated[Skips | None, Since("0.2.0")] = None
    pyramid: Annotated[Pyramid | None, Since("0.2.0")] = None
    predictor: Annotated[Predictor | None, Since("0.2.0")] = None

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
        changed = [n for n in ("pruning", "windows", "skips", "pyramid") if getattr(self, n) is not None]
        if self.predictor is not None and changed:
            raise ValueError(f"predictor and {changed[0]}: only the plain encoder is pretrained; leave out one of them")

    @property
    def depth_of_weights(self) -> int:
        """How many layers the weights have."""
        return self.layers if self.pruning is None else self.pruning.of

    def shape(self) -> dict[str, Any]:
        own = {"mlp_ratio": self.mlp_ratio, "num_hidden_layers": self.depth_of_weights}
        return super().shape() | own | ({} if self.predictor is None else self.predictor.shape())

    def settings(self) -> dict[str, Any]:
        return {"crop_size": self.size, "frames_per_clip": self.frames, "drop_path_rate": self.drop_path}

    def trimmed(self, model: Any) -> Any:
        if self.predictor is None:
            model.predictor = nn.Identity()
        return model

    def assembled(self, model: Any) -> Any:
        from calot.models.backbones.rotary import with_tables

        encoder = model.encoder
        with_tables(encoder)
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
        if self.predictor is not None:
            parts[PREDICTOR], model.predictor = model.predictor, nn.Identity()
        if parts:
            model.add_module(FRESH, nn.ModuleDict(parts))
        return model

    def encode(self, network: Any, video: Tensor) -> Tensor:
        return self.through(network, network.encoder.embeddings(video))

    @property
    def undivided(self) -> str | None:
        beyond = self.skips or self.pyramid
        return None if beyond is None else f"{type(beyond).__name__} carries what lower layers give past the others"

    def below(self, network: Any, video: Tensor, *, layer: int) -> Tensor:
        hidden = network.encoder.embeddings(video)
        for lower in network.encoder.layer[:layer]:
            hidden = lower(hidden, None)[0]
        return hidden  # type: ignore[no-any-return]

    def above(self, network: Any, hidden: Tensor, *, layer: int) -> Tensor:
        return self.through(network, hidden, first=layer)

    def through(self, network: Any, hidden: Float[Tensor, "b n d"], *, first: int = 0) -> Float[Tensor, "b n d"]:
        """What layers from `first` on and the final norm make of what enters them, skips and pyramid included."""
        fresh, levels = dict(network.named_children()).get(FRESH, {}), dict[int, Tensor]()
        read = {*(self.skips.sources if self.skips else ()), *(self.pyramid.layers if self.pyramid else ())}
        for number, layer in enumerate(network.encoder.layer[first:], start=first):
            if self.skips is not None:
                hidden = fresh["skips"].entering(number, hidden, levels)
            hidden = layer(hidden, None)[0]
            if number in read:
                levels[number] = hidden
        last: Tensor = network.encoder.layernorm(hidden)
        return last if self.pyramid is None else fresh["pyramid"](last, levels)

    @property
    def predicts(self) -> bool:
        return self.predictor is not None

    def predicted(self, network: Any, video: Tensor, *, hidden: Mapping[str, Hidden]) -> dict[str, Tensor]:
        if self.predictor is None:
            return super().predicted(network, video, hidden=hidden)
        predictor = network.get_submodule(FRESH)[PREDICTOR]
        return predicted_tokens(network, predictor, network.encoder.embeddings(video), hidden=hidden)

    def write(self, network: Any, folder: pathlib.Path) -> None:
        if self.predictor is None:
            super().write(network, folder)
        parts = {"encoder": network.encoder, PREDICTOR: network.get_submodule(FRESH)[PREDICTOR]}
        tensors = {f"{part}.{k}": v for part, module in parts.items() for k, v in module.state_dict().items()}
        own = {"architectures": [self.classes[1]], "dtype": "float32"}
        self._classes()[0](**self.shape(), **self.settings(), **own).save_pretrained(folder)
        whole = {k: v.detach().float().cpu().contiguous() for k, v in tensors.items()}
        save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})

    def switches(self, network: Any) -> Mapping[str, Callable[[], AbstractContextManager[None]]]:
        found: dict[str, Callable[[], AbstractContextManager[None]]] = {}
        if self.windows is not None:
            found["windows"] = partial(turned_off, windows_in(network))
        for name in ("skips", "pyramid"):
            if getattr(self, name) is not None:
                found[name] = partial(turned_off, [network.get_submodule(FRESH)[name]])
        return found

    def at_tiny_scale(self) -> VJEPA2:
        plain = replace(self, pruning=None, windows=None, skips=None, pyramid=None, predictor=None)
        small: Any = super(VJEPA2, plain).at_tiny_scale()
        shares = {n: getattr(small, n) / getattr(self, n) for n in ("width", "heads")}
        depth, whole = small.layers, self.depth_of_weights
        layers = max(1, round(self.layers * depth / whole))
        numbers = {"layers": layers, "of": self.layers}
        sides = {"side": small.grid[1], "of_side": self.grid[1]}
        tiny: VJEPA2 = replace(
            small,
            weights=None if self.weights is None else EMBEDDED,
            layers=layers,
            pruning=None if self.pruning is None else replace(self.pruning, of=depth),
            windows=None if self.windows is None else self.windows.scaled(**numbers, **sides),
            skips=None if self.skips is None else self.skips.scaled(**numbers),
            pyramid=None if self.pyramid is None else self.pyramid.scaled(**numbers),
            predictor=None if self.predictor is None else self.predictor.scaled(depth=depth / whole, **shares),
        )
        return tiny

    def sizes(self) -> str:
        changed = (self.pruning, self.windows, self.skips, self.pyramid, self.predictor)
        return ", ".join([super().sizes(), *(str(x) for x in changed if x is not None)])

    @classmethod
    def translated(cls, name: str, tensor: Tensor) -> Mapping[str, Tensor] | str | None:
        """As the protocol says, and official names: a fused qkv becomes three; positions are computed here."""
        if re.match(r"(?:(?:model|vjepa2)\.)*predictor\.", name):
            return "predictor: never in the path"
        if (official := _OFFICIAL.fullmatch(name)) is None or ".lora_" in name:
            return super().translated(name, tensor)
        parts = official_encoder_names(official[1], tensor)
        return {f"encoder.{k}": v for k, v in parts.items()} or "table of positions: this encoder computes them"

    def build(self) -> Backbone:
        if self.weights is None:
            return super().build()
        place = pathlib.Path(self.weights)
        path = official_file(place if place.suffix in _FILES else find_weights(self.weights))
        if path is None:
            return super().build()
        whole = self.untrained()
        whole.encoder.load_state_dict(read_official_encoder(path, expected=whole.encoder.state_dict()))
        return Backbone(self.assembled(whole), spec=self)
