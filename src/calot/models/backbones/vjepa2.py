"""V-JEPA 2's encoder (Assran et al. 2025), through transformers' `VJEPA2Model`; its predictor only to pretrain."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from calot.config.fields import Path, Since
from calot.models.backbones.jepa import JEPAEncoder
from calot.models.backbones.official import SECOND, encoder_names
from calot.models.backbones.predictor import Predictor, predicted_tokens
from calot.models.backbones.protocol import FRESH, PREDICTOR
from calot.models.checkpoints import EMBEDDED
from calot.models.tensor_files import save_tensors
from calot.types import Hidden

#: A tensor of the official encoder, below any prefix.
_OFFICIAL = re.compile(r"(?:(?:model|encoder)\.)*((?:blocks|patch_embed|norm)\..+|pos_embed)")


@dataclass(frozen=True, kw_only=True)
class VJEPA2(JEPAEncoder):
    """The encoder's shape and where its weights come from. Defaults: ViT-L, 16 frames of 256 x 256.

    `weights`: a hub id, a local folder, an official `.pt` file, `calot/tiny` (the tiny scale's, which come with
    calot), or None for random weights (drawn from the run's seed, and stated in every report). `drop_path`: stochastic
    depth of the last layer (Huang et al. 2016), growing linearly from 0 at the first.

    `pruning`: the `layers` are some of those that the weights have. `windows`, `skips`, `pyramid`: see `additions.py`.
    `predictor`: what pretraining trains beside the encoder; its weights, too, where they hold one, else random ones.
    """

    name = "V-JEPA 2 encoder"
    classes = ("VJEPA2Config", "VJEPA2Model")
    dropped: ClassVar[Mapping[str, Any]] = {"pred_num_hidden_layers": 1}
    may_lack: ClassVar[tuple[str, ...]] = (f"{PREDICTOR}.",)
    official = SECOND
    embedded = EMBEDDED

    weights: Path | None = "facebook/vjepa2-vitl-fpc16-256-ssv2"
    predictor: Annotated[Predictor | None, Since("0.2.0")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        changed = [n for n in ("pruning", "windows", "skips", "pyramid") if getattr(self, n) is not None]
        if self.predictor is not None and changed:
            raise ValueError(f"predictor and {changed[0]}: only the plain encoder is pretrained; leave out one of them")

    def shape(self) -> dict[str, Any]:
        return super().shape() | ({} if self.predictor is None else self.predictor.shape())

    def trimmed(self, model: Any) -> Any:
        if self.predictor is None:
            model.predictor = nn.Identity()
        return model

    def assembled(self, model: Any) -> Any:
        from calot.models.backbones.rotary import with_tables

        with_tables(model.encoder)
        return super().assembled(model)

    def own_fresh(self, model: Any) -> dict[str, nn.Module]:
        if self.predictor is None:
            return {}
        predictor, model.predictor = model.predictor, nn.Identity()
        return {PREDICTOR: predictor}

    def turns(self, network: Any, hidden: Tensor) -> None:
        """Each layer has its own tables."""

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
        save_tensors({k: v.float() for k, v in tensors.items()}, folder / "model.safetensors", of_torch=True)

    def standardise(self, network: Any, *, mean: Tensor, deviation: Tensor) -> None:
        if self.predictor is None:
            super().standardise(network, mean=mean, deviation=deviation)
        norm = network.encoder.layernorm
        first = network.get_submodule(FRESH)[PREDICTOR].embeddings.predictor_embeddings
        wide = {p: p.detach().double() for p in (norm.weight, norm.bias, first.weight, first.bias)}
        with torch.no_grad():
            first.bias.copy_(wide[first.bias] + wide[first.weight] @ mean)
            first.weight.copy_(wide[first.weight] * deviation)
            norm.weight.copy_(wide[norm.weight] / deviation)
            norm.bias.copy_((wide[norm.bias] - mean) / deviation)

    @property
    def unshared(self) -> str | None:
        changed = [n for n in ("windows", "skips", "pyramid", "predictor") if getattr(self, n) is not None]
        return f"backbone.{changed[0]} changes the network that transformers has" if changed else None

    def shared(self, network: Any) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
        fields = {**self.dropped, **self.shape(), **self.settings(), "num_hidden_layers": self.layers}
        config = self._classes()[0](**fields, dtype="float32").to_dict()
        return config, {f"encoder.{name}": tensor for name, tensor in network.encoder.state_dict().items()}

    def at_tiny_scale(self) -> VJEPA2:
        small: Any = super(VJEPA2, replace(self, predictor=None)).at_tiny_scale()
        if self.predictor is None:
            return small  # type: ignore[no-any-return]
        shares = {n: getattr(small, n) / getattr(self, n) for n in ("width", "heads")}
        depth = small.depth_of_weights / self.depth_of_weights
        return replace(small, predictor=self.predictor.scaled(depth=depth, **shares))  # type: ignore[no-any-return]

    def sizes(self) -> str:
        return super().sizes() if self.predictor is None else f"{super().sizes()}, {self.predictor}"

    @classmethod
    def translated(cls, name: str, tensor: Tensor) -> Mapping[str, Tensor] | str | None:
        """As the protocol says, and official names: a fused qkv becomes three; positions are computed here."""
        if re.match(r"(?:(?:model|vjepa2)\.)*predictor\.", name):
            return "predictor: never in the path"
        if (official := _OFFICIAL.fullmatch(name)) is None or ".lora_" in name:
            return super().translated(name, tensor)
        parts = encoder_names(official[1], tensor)
        return {f"encoder.{k}": v for k, v in parts.items()} or "table of positions: this encoder computes them"
