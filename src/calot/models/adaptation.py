"""What of the backbone trains, and at which learning rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from torch import nn

from calot.config.fields import FractionBelowOne, LayerNumbers, LearningRate, Range, Size, layers_at_depth
from calot.errors import CalotError, nearest_name
from calot.models.backbones.place import Place
from calot.models.backbones.protocol import Backbone, BackboneSpec
from calot.models.dropout import Regularised
from calot.models.tensor_files import save_tensors

#: A layer's rate over that of the layer above it.
Decay = Annotated[float, Range(ge=0.01, le=1)]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate, under the name that receipts and logs use."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    lr: float


@dataclass(frozen=True, kw_only=True)
class Adaptation(Regularised, ABC):
    """Prepares a backbone in place and names what trains. Applying the same one twice changes nothing."""

    @abstractmethod
    def apply(self, backbone: Backbone) -> tuple[ParameterGroup, ...]:
        """Set `requires_grad` throughout the backbone and return its trainable groups."""

    @abstractmethod
    def declared(self, backbone: Backbone) -> dict[str, int]:
        """How many parameters of the backbone are to train, by target, computed from the encoder's shape alone."""

    def unfit(self, spec: BackboneSpec) -> str | None:
        """Why it cannot adapt a backbone of this family, if so; asked before anything is built."""
        return None

    def target_of(self, place: Place) -> str:
        """The target that a trained parameter in this place belongs to."""
        return place.part

    def neutral(self) -> Adaptation:
        """The same for the forward pass before any step: what adapts starts as the identity."""
        return self

    def at_depth(self, *, layers: int, of: int) -> Adaptation:
        """The same for an encoder of `layers` layers where this one was written for `of`: numbers by depth fraction."""
        return self


@dataclass(frozen=True, kw_only=True)
class Frozen(Adaptation):
    """No part of the backbone trains; it runs in evaluation mode without a graph."""

    def apply(self, backbone: Backbone) -> tuple[ParameterGroup, ...]:
        backbone.requires_grad_(False)
        return ()

    def declared(self, backbone: Backbone) -> dict[str, int]:
        return {}


@dataclass(frozen=True, kw_only=True)
class FullFineTune(Adaptation):
    """The whole encoder trains at `lr`; `layer_decay` lowers it from the top down, as in `Unfreeze`."""

    lr: LearningRate = 1e-4
    layer_decay: Decay = 1.0

    def apply(self, backbone: Backbone) -> tuple[ParameterGroup, ...]:
        backbone.requires_grad_(True)
        return _groups(backbone, lr=self.lr, decay=self.layer_decay)

    def declared(self, backbone: Backbone) -> dict[str, int]:
        whole = {f"layer.{i}": _count_layer(backbone, i) for i in range(len(backbone.layers))}
        return whole | {"final_norm": _count(backbone.final_norm), "embedding": _count(backbone.embedding)}


@dataclass(frozen=True, kw_only=True)
class Unfreeze(Adaptation):
    """The last `layers` transformer layers train at `lr`, and the encoder's final LayerNorm if `final_norm`.

    `layer_decay` d: a parameter k layers below the top trains at lr d^k (Clark et al. 2020; Bao et al. 2022), the final
    norm at lr. The study meant to train the final norm with its last layers and did not: `final_norm=False` repeats it.
    """

    layers: Annotated[int, Range(ge=1, le=1000)] = 2
    lr: LearningRate = 1e-5
    final_norm: bool = True
    layer_decay: Decay = 1.0

    def idle(self) -> tuple[str, ...]:
        return ("layer_decay",) if self.layers == 1 else ()

    def apply(self, backbone: Backbone) -> tuple[ParameterGroup, ...]:
        if not 1 <= self.layers <= len(backbone.layers):
            raise CalotError(f"Unfreeze.layers={self.layers}: this encoder has {len(backbone.layers)} layers")
        backbone.requires_grad_(False)
        for number in self._last(backbone):
            for module in backbone.modules_of(number):
                module.requires_grad_(True)
        backbone.final_norm.requires_grad_(self.final_norm)
        return _groups(backbone, lr=self.lr, decay=self.layer_decay)

    def declared(self, backbone: Backbone) -> dict[str, int]:
        norm = {"final_norm": _count(backbone.final_norm)} if self.final_norm else {}
        return {f"layer.{i}": _count_layer(backbone, i) for i in self._last(backbone)} | norm

    def _last(self, backbone: Backbone) -> range:
        return range(len(backbone.layers))[-self.layers :]

    def at_depth(self, *, layers: int, of: int) -> Unfreeze:
        """At least two layers where each has its own rate, which one alone could not show."""
        least = min(self.layers, 2) if self.layer_decay < 1 else 1
        return replace(self, layers=max(least, round(self.layers * layers / of)))


#: Names users write -> a linear's role.
_TARGETS = {"q": "q", "k": "k", "v": "v", "q_proj": "q", "k_proj": "k", "v_proj": "v"}
_TARGETS |= {"query": "q", "key": "k", "value": "v", "proj": "proj", "o": "proj", "out_proj": "proj"}
_TARGETS |= {"fc1": "fc1", "fc2": "fc2"}
_ADAPTER = "default"


@dataclass(frozen=True, kw_only=True)
class LoRA(Adaptation):
    """Low-rank adapters (Hu et al. 2022, eq. 3) on the encoder's linears, through peft; nothing else in it trains.

    `targets` among q, k, v, proj, fc1, fc2 (q_proj and the like are understood); `layers` None is all of them, a
    negative number counts from the last. `bias`: none, or lora_only (the adapted linears' own biases train too).
    Nothing outside the layers is ever touched, and every target must match in every layer.
    """

    rank: Size = 16
    alpha: Annotated[int, Range(ge=1, le=65_536)] = 32
    dropout: FractionBelowOne = 0.1
    targets: tuple[str, ...] = ("q", "v")
    layers: LayerNumbers | None = None
    bias: Literal["none", "lora_only"] = "none"
    dora: bool = False
    lr: LearningRate = 1e-4

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError(f"LoRA.targets={self.targets}: needs a target")
        for target in self.targets:
            if target not in _TARGETS:
                raise ValueError(f"LoRA.targets: {target!r} is not a linear.{nearest_name(target, among=_TARGETS)}")
        if len(set(self.roles)) != len(self.targets):
            raise ValueError(f"LoRA.targets={self.targets} names one linear twice")

    @property
    def roles(self) -> tuple[str, ...]:
        """The targets by the linears' roles."""
        return tuple(_TARGETS[t] for t in self.targets)

    def apply(self, backbone: Backbone) -> tuple[ParameterGroup, ...]:
        before = backbone.adapter
        if before is None:
            self._insert(backbone)
        elif replace(before, lr=self.lr) != self:
            raise CalotError(f"stage: the backbone already carries {before}, and {self} is another adapter")
        backbone.requires_grad_(False)
        trained = [(n, p) for n, p in backbone.named_parameters() if ".lora_" in n or self._own_bias(n)]
        for _, parameter in trained:
            parameter.requires_grad_(True)
        return (ParameterGroup("lora", tuple(p for _, p in trained), self.lr),)

    def declared(self, backbone: Backbone) -> dict[str, int]:
        numbers = self.layers_of(len(backbone.layers))
        return {role: sum(self._count(backbone, layer=n, role=role) for n in numbers) for role in self.roles}

    def _count(self, backbone: Backbone, *, layer: int, role: str) -> int:
        inner, outer = backbone.linear_shape(layer, role)
        own_bias = self.bias == "lora_only" and _bias_of(backbone.linear(layer, role)) is not None
        return self.rank * (inner + outer) + outer * (self.dora + own_bias)

    def target_of(self, place: Place) -> str:
        return place.role or place.part

    def layers_of(self, depth: int) -> tuple[int, ...]:
        """The layers it adapts in an encoder of `depth` layers, from 0. Raises CalotError for an absent one."""
        wrong = [n for n in self.layers or () if not -depth <= n < depth]
        if wrong:
            raise CalotError(f"LoRA.layers={self.layers}: {wrong} are not layers of an encoder of {depth}")
        return tuple(range(depth)) if self.layers is None else tuple(sorted({n % depth for n in self.layers}))

    def at_depth(self, *, layers: int, of: int) -> LoRA:
        if self.layers is None:
            return self
        return replace(self, layers=tuple(sorted(set(layers_at_depth(self.layers, layers=layers, of=of)))))

    def config(self, backbone: Backbone) -> Any:
        """peft's configuration for this backbone, as `adapter_config.json` holds it."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=backbone.linear_pattern(layers=self.layers_of(len(backbone.layers)), roles=self.roles),
            bias=self.bias,
            use_dora=self.dora,
        )

    def _insert(self, backbone: Backbone) -> None:
        from peft import inject_adapter_in_model

        inject_adapter_in_model(self.config(backbone), backbone.model, adapter_name=_ADAPTER)
        count = len(self.layers_of(len(backbone.layers)))
        matched = sum(n.endswith(f".lora_A.{_ADAPTER}") for n, _ in backbone.named_modules())
        if matched != count * len(self.targets):
            raise CalotError(
                f"LoRA.targets={self.targets} matched {matched} linears, "
                f"need {len(self.targets)} in each of {count} layers"
            )
        backbone.adapter = self

    def _own_bias(self, name: str) -> bool:
        return self.bias == "lora_only" and name.endswith(".base_layer.bias")


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _count_layer(backbone: Backbone, number: int) -> int:
    return sum(_count(module) for module in backbone.modules_of(number))


def _bias_of(linear: Any) -> nn.Parameter | None:
    """A linear's own bias, also under an adapter."""
    bias: nn.Parameter | None = getattr(linear, "base_layer", linear).bias
    return bias


def _groups(backbone: Backbone, *, lr: float, decay: float) -> tuple[ParameterGroup, ...]:
    """What trains: one group per depth where rates differ by layer, otherwise a single group. Fresh parts are the
    stage's."""
    fresh = set(backbone.fresh)
    trained = [(n, p) for n, p in backbone.named_parameters() if p.requires_grad and p not in fresh]
    if decay == 1.0:
        return (ParameterGroup("backbone", tuple(p for _, p in trained), lr),)
    depth = len(backbone.layers)
    groups: dict[int, list[nn.Parameter]] = {}
    for name, parameter in trained:
        groups.setdefault(backbone.height(name), []).append(parameter)
    return tuple(
        ParameterGroup(f"backbone.{height}", tuple(groups[height]), lr * decay ** max(0, depth - height))
        for height in sorted(groups)
    )


def canonical_name(name: str) -> str:
    """A parameter's name without what peft wraps around it, so that checkpoints do not depend on the wrapping."""
    return name.replace(".base_layer.", ".").replace(f".{_ADAPTER}.", ".")


def save_adapter(backbone: Backbone, folder: Any) -> None:
    """Write the adapter as peft does: `adapter_config.json` and `adapter_model.safetensors`, for `PeftModel`."""
    folder.mkdir(parents=True, exist_ok=True)
    backbone.adapter.config(backbone).save_pretrained(folder)
    state = {f"base_model.model.{k}": v for k, v in _adapter_state(backbone).items()}
    save_tensors(state, folder / "adapter_model.safetensors")


def load_adapter(backbone: Backbone, folder: Any, *, lora: LoRA) -> None:
    """Insert `lora` and give it the weights of a peft adapter's folder. Raises CalotError where the two do not fit."""
    from peft import LoraConfig, set_peft_model_state_dict
    from safetensors.torch import load_file

    theirs, ours = LoraConfig.from_pretrained(folder), lora.config(backbone)
    for name in ("r", "lora_alpha", "use_dora", "bias"):
        if getattr(theirs, name) != getattr(ours, name):
            raise CalotError(
                f"{folder}: {name} {getattr(theirs, name)} where the experiment says {getattr(ours, name)}"
            )
    lora.apply(backbone)
    state = load_file(folder / "adapter_model.safetensors")
    state = {k.removeprefix("base_model.model."): v for k, v in state.items()}
    if unlike := _adapter_state(backbone).keys() ^ state.keys():
        raise CalotError(f"{folder}: adapts other linears than {lora.targets}, first {min(unlike)}")
    set_peft_model_state_dict(backbone.model, state, adapter_name=_ADAPTER)


def _adapter_state(backbone: Backbone) -> dict[str, Any]:
    from peft import get_peft_model_state_dict

    state: dict[str, Any] = get_peft_model_state_dict(backbone.model, adapter_name=_ADAPTER)
    return state


def merge_adapter(backbone: Backbone) -> None:
    """Fold the adapter into the weights, in place: the same outputs (1e-5) from a plain encoder."""
    from peft.tuners.lora import LoraLayer

    wrapped: Iterable[tuple[str, Any]] = [(n, m) for n, m in backbone.named_modules() if isinstance(m, LoraLayer)]
    for name, module in wrapped:
        module.merge(safe_merge=True)
        parent, _, own = name.rpartition(".")
        setattr(backbone.get_submodule(parent), own, module.get_base_layer())
    backbone.adapter = None
