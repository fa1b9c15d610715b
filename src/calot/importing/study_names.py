"""The names that the study's `.pt` files give their tensors, and ours: pure renaming, by these rules alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from calot.errors import CalotError
from calot.models.adaptation import canonical_name
from calot.models.backbones import families
from calot.models.backbones.official import SECOND, SECOND_1
from calot.models.backbones.protocol import BackboneSpec

#: Where a training script puts the state dict, beside its epoch, optimiser, best mAP and settings.
WRAPPED_IN = ("model_state_dict", "state_dict", "model")

#: What wrappers add to a name, wherever they stand: DataParallel, torch.compile, peft.
_WRAPPERS = ("module.", "_orig_mod.", "base_model.model.")

_LINEAR = r"(weight|bias)"
_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"

#: The whole of a name outside the backbone -> ours, the first rule that fits. A rule's groups are what it keeps.
_RULES = tuple(
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"(?:pooler|pooling)\.query", r"pooling.query"),
        (r"(?:pooler|pooling)\.(?:attention|attn)\.(in_proj_\w+|out_proj\.\w+)", r"pooling.attention.\1"),
        (rf"(?:pooler|pooling)\.(?:norm|layer_norm|ln)\.{_LINEAR}", r"pooling.norm.\1"),
        (rf"(?:classifier|cvs_head|head)\.(?:head\.|net\.|mlp\.|layers\.)?(\d+)\.{_LINEAR}", r"head.\1.\2"),
        (
            rf"(?:seg_head|segmentation)\.(?:project|proj|projection|input_proj)\.(\d+)\.{_LINEAR}",
            r"segmentation.project.\1.\2",
        ),
        (rf"(?:seg_head|segmentation)\.(?:upsample|decoder|up)\.(\d+)\.{_NORM}", r"segmentation.upsample.\1.\2"),
        (rf"(?:seg_head|segmentation)\.(?:classifier|final|out)\.{_LINEAR}", r"segmentation.upsample.6.\1"),
    )
)
_BACKBONE = "backbone."

PATCH_ADAPTER, NO_RULE = "adapter in the patch embedding: dropped", "no rule for this name"


@dataclass(frozen=True)
class Unmapped:
    """A tensor of the file that is not used: its name there, its shape, the reason."""

    name: str
    shape: tuple[int, ...]
    why: str


@dataclass(frozen=True, kw_only=True)
class StudyState:
    """A file's tensors under our names; `sources` has each one's own; `beside`: what was stored with them.

    `family` is the backbone whose names the file's are.
    """

    family: type[BackboneSpec]
    tensors: Mapping[str, Tensor]
    sources: Mapping[str, str]
    unmapped: Sequence[Unmapped]
    wrapped_in: str | None
    beside: Mapping[str, Any]


def study_state(data: Any, *, where: str, rename: Sequence[tuple[str, str]] = ()) -> StudyState:
    """Rename what a `.pt` file held. `rename`: prefixes of names to replace before the rules.

    Raises CalotError when it is not a state dict and when two tensors get the same name.
    """
    state, wrapped_in = _unwrapped(data, where=where)
    plain = {source: _plain(_renamed(source, rename)) for source in state}
    family = _family(plain.values())
    tensors: dict[str, Tensor] = {}
    sources: dict[str, str] = {}
    unmapped: list[Unmapped] = []
    for source, tensor in state.items():
        found = _ours(plain[source], tensor, family=family)
        if isinstance(found, str):
            unmapped.append(Unmapped(source, tuple(tensor.shape), found))
            continue
        for name, value in found.items():
            if name in tensors:
                raise CalotError(f"{where}: {sources[name]} and {source} are both {name}; keep one of them")
            tensors[name], sources[name] = value, source
    beside = {k: v for k, v in data.items() if wrapped_in is not None and k != wrapped_in}
    return StudyState(
        family=family, tensors=tensors, sources=sources, unmapped=unmapped, wrapped_in=wrapped_in, beside=beside
    )


def _family(names: Iterable[str]) -> type[BackboneSpec]:
    """The family that has a place for the most of the backbone's tensors; the default one of equals."""
    below = [name.removeprefix(_BACKBONE) for name in names if name.startswith(_BACKBONE)]
    nothing = torch.empty(3)
    return max(families(), key=lambda family: sum(family.translated(name, nothing) is not None for name in below))


def _unwrapped(data: Any, *, where: str) -> tuple[dict[str, Tensor], str | None]:
    if isinstance(data, dict) and any(isinstance(data.get(k), dict) for k in SECOND.keys):
        newer = isinstance(data.get("ema_encoder"), dict)
        kind, experiment = (SECOND_1, SECOND_1.experiment) if newer else (SECOND, SECOND.experiment)
        raise CalotError(
            f"{where}: an official {kind.name} encoder, which has no head for the criteria and so nothing to score. "
            f"Train one on it: calot train {experiment} --data ROOT backbone.weights=FILE"
        )
    key = next((k for k in WRAPPED_IN if isinstance(data, dict) and isinstance(data.get(k), dict)), None)
    state = data if key is None else data[key]
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise CalotError(
            f"{where}: holds no state dict, neither itself nor under {', '.join(WRAPPED_IN)}. "
            "Save model.state_dict() and import that."
        )
    return {str(k): v for k, v in state.items()}, key


def _renamed(name: str, rename: Sequence[tuple[str, str]]) -> str:
    return next((new + name.removeprefix(old) for old, new in rename if name.startswith(old)), name)


def _plain(source: str) -> str:
    """A name without what wrappers added to it."""
    for wrapper in _WRAPPERS:
        source = re.sub(rf"(^|\.){re.escape(wrapper)}", r"\1", source)
    return canonical_name(source)


def _ours(name: str, tensor: Tensor, *, family: type[BackboneSpec]) -> Mapping[str, Tensor] | str:
    """A tensor under our name (one may become several), or why it is not used."""
    if name.startswith(_BACKBONE):
        return _of_backbone(name.removeprefix(_BACKBONE), tensor, family=family)
    for pattern, ours in _RULES:
        if (found := pattern.fullmatch(name)) is not None:
            return {found.expand(ours): tensor}
    return NO_RULE


def _of_backbone(name: str, tensor: Tensor, *, family: type[BackboneSpec]) -> Mapping[str, Tensor] | str:
    adapter, found = ".lora_" in name, family.translated(name, tensor)
    if found is None:
        return NO_RULE
    if isinstance(found, str):
        return f"adapter in the {found}" if adapter else found
    if adapter and all(k.startswith(f"{family.layout.embedding}.") for k in found):
        return PATCH_ADAPTER
    return {f"{_BACKBONE}model.{k}": v for k, v in found.items()}
