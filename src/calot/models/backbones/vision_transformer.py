"""What families of plain vision transformers share: their sizes, and building them through transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch

from calot.config.fields import Range, Size
from calot.errors import CalotError, first_line
from calot.models.backbones.protocol import Backbone, BackboneSpec
from calot.models.checkpoints import ReadFrom, find_weights, without_bars

_TINY: dict[str, Any] = {"weights": None, "size": 64, "frames": 8, "patch": 8, "width": 128, "layers": 4, "heads": 2}


@dataclass(frozen=True, kw_only=True)
class VisionTransformer(BackboneSpec):
    """A stack of equal layers over square patches. Defaults: ViT-L, 16 frames of 256 x 256.

    `weights`: a hub id, a local folder, or None for random weights (drawn from the run's seed, and stated in every
    report). The network is built for `size`: positions of another size would be wrong without an error.
    """

    #: transformers' names of the family's configuration and of its model.
    classes: ClassVar[tuple[str, str]]
    #: Fields of the configuration that keep the parts dropped by `trimmed` small.
    dropped: ClassVar[Mapping[str, Any]] = {}
    #: How the names of tensors begin that weights may lack: they then start at random.
    may_lack: ClassVar[tuple[str, ...]] = ()

    size: Annotated[int, Range(ge=1, le=4096)] = 256
    frames: Annotated[int, Range(ge=1, le=1024)] = 16
    patch: Annotated[int, Range(ge=1, le=256)] = 16
    width: Size = 1024
    layers: Annotated[int, Range(ge=1, le=1000)] = 24
    heads: Annotated[int, Range(ge=1, le=1024)] = 16
    mlp_ratio: Annotated[float, Range(ge=0.01, le=64)] = 4.0

    def __post_init__(self) -> None:
        for whole, part in (("size", "patch"), ("width", "heads")):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{type(self).__name__}.{whole}={getattr(self, whole)} is not a multiple of "
                    f"{part}={getattr(self, part)}"
                )
        if self.hidden < 1:
            raise ValueError(f"{type(self).__name__}.mlp_ratio={self.mlp_ratio} leaves no hidden unit")

    def shape(self) -> dict[str, Any]:
        """Fields of transformers' configuration that the weights depend on; published ones must agree with them."""
        return {
            "patch_size": self.patch,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
        }

    def settings(self) -> dict[str, Any]:
        """Fields of it that no weight depends on."""
        return {}

    def trimmed(self, model: Any) -> Any:
        """A whole model of transformers without the parts that `encode` never uses."""
        return model

    def assembled(self, model: Any) -> Any:
        """A trimmed model, weights and all, as the experiment changes it."""
        return model

    @property
    def side(self) -> int:
        """Patches along a side."""
        return self.size // self.patch

    @property
    def hidden(self) -> int:
        """Units between fc1 and fc2."""
        return int(self.width * self.mlp_ratio)

    def build(self) -> Backbone:
        if self.weights is None:
            return self.build_without_weights()
        place = find_weights(self.weights)
        network = self.assembled(self._published(place))
        return Backbone(network, spec=self, read_from=ReadFrom(files=tuple(sorted(place.glob("*.safetensors")))))

    def build_without_weights(self) -> Backbone:
        return Backbone(self.assembled(self.untrained()), spec=self)

    def at_tiny_scale(self) -> VisionTransformer:
        return replace(self, **_TINY)

    def describe(self) -> str:
        return f"{self.name}, {self.sizes()}; {self.frames} frames of {self.size} x {self.size}"

    def sizes(self) -> str:
        """The network's sizes in words."""
        return f"{self.layers} layers, width {self.width}, {self.heads} heads, patch {self.patch}"

    def _classes(self) -> tuple[Any, Any]:
        import transformers

        import calot.models.attention  # noqa: F401  # registers the attention that has a seam

        return tuple(getattr(transformers, name) for name in self.classes)

    def untrained(self) -> Any:
        """The trimmed model with random weights."""
        from calot.models.attention import IMPLEMENTATION

        config, model = self._classes()
        fields = {**self.dropped, **self.shape(), **self.settings()}
        return self.trimmed(model(config(**fields, attn_implementation=IMPLEMENTATION)))

    def _read(self, reader: Callable[..., Any], place: Path, **options: Any) -> Any:
        """What transformers reads from a folder. Raises CalotError naming the folder, whatever was wrong."""
        try:
            kind = json.loads((place / "config.json").read_text(encoding="utf-8")).get("model_type")
            wanted = self._classes()[0].model_type
            if kind not in (None, wanted):
                raise ValueError(f"its config.json is of a {kind} model, and {self.name} needs {wanted}")
            with without_bars():
                return reader(place, **options)
        except Exception as error:  # a mangled file makes it raise nearly anything
            raise CalotError(
                f"{place}: no weights that {self.name} can be read from ({first_line(error)}); download them again, or "
                "name others with backbone.weights"
            ) from error

    def _published(self, place: Path) -> Any:
        """The model with the weights of a folder that transformers wrote."""
        from calot.models.attention import IMPLEMENTATION

        config, model = self._classes()
        found = self._read(config.from_pretrained, place)
        wrong = {k: (v, getattr(found, k)) for k, v in self.shape().items() if getattr(found, k) != v}
        if wrong:
            listed = ", ".join(f"{k} {theirs} where the experiment says {ours}" for k, (ours, theirs) in wrong.items())
            raise CalotError(
                f"weights={self.weights!r} are of another size: {listed}. Set the backbone's fields to match, or "
                "backbone.weights=None for random weights."
            )
        loaded, info = self._read(
            model.from_pretrained,
            place,
            **self.settings(),
            attn_implementation=IMPLEMENTATION,
            dtype=torch.float32,
            output_loading_info=True,
        )
        trimmed = self.trimmed(loaded)
        missing = sorted(
            name for name in set(info["missing_keys"]) & set(trimmed.state_dict()) if not name.startswith(self.may_lack)
        )
        if missing:
            raise CalotError(f"weights={self.weights!r} lack {len(missing)} encoder tensors, first {missing[0]}")
        return trimmed


@dataclass(frozen=True, kw_only=True)
class VideoTransformer(VisionTransformer):
    """One whose patches span `tubelet` frames."""

    tubelet: Annotated[int, Range(ge=1, le=64)] = 2

    def __post_init__(self) -> None:
        if self.frames % self.tubelet:
            raise ValueError(f"{type(self).__name__}.frames={self.frames} is not a multiple of tubelet={self.tubelet}")
        super().__post_init__()

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.frames // self.tubelet, self.side, self.side

    def shape(self) -> dict[str, Any]:
        return super().shape() | {"tubelet_size": self.tubelet}

    def sizes(self) -> str:
        return f"{super().sizes()}, tubelet {self.tubelet}"
