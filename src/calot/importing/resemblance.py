"""What a checkpoint's tensors say of the experiment they come from, and the shipped experiment that is nearest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from calot.errors import CalotError
from calot.experiment import Experiment, scaled
from calot.experiments import Found, find, names
from calot.models.adaptation import LoRA
from calot.models.backbones.protocol import BackboneSpec
from calot.models.heads import MLPHead

#: The plainest experiment of each architecture, before others that have the same tensors.
_PLAIN = ("e02_frozen_probe", "e08_multitask", "e10a_lora_r16", "e10b_documented", "e10b_lora_r32_qkv", "lora_r64")
_GROUPS = 8  # of GroupNorm where a decoder has no running statistics: the default, which no tensor shows
_SIDE = re.compile(r".*\.lora_(A|B)\.weight")
_NETWORK = "backbone.model."
_MAGNITUDE = "lora_magnitude_vector"


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """The low-rank adapters found: the same linears in the same layers, all of one rank."""

    rank: int
    targets: tuple[str, ...]
    layers: tuple[int, ...]
    dora: bool


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What names and shapes show; None where a part is absent. Attention heads, alpha and dropout leave no trace."""

    family: type[BackboneSpec]
    width: int | None
    layers: int | None
    head_hidden: int | None
    segmentation_hidden: int | None
    batch_norm: bool
    adapters: Adapters | None

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], *, family: type[BackboneSpec], where: str) -> Facts:
        """Read them off tensors under our names. Raises CalotError for adapters that no one setting describes."""
        layer = re.compile(rf"{re.escape(_NETWORK + family.layout.layers)}\.(\d+)\.(?!.*\.lora_)")
        numbers = [int(m[1]) for k in tensors if (m := layer.match(k))]
        query, project = tensors.get("pooling.query"), tensors.get("segmentation.project.1.weight")
        hidden = tensors.get("head.1.weight") if "head.4.weight" in tensors else None
        return cls(
            family=family,
            width=None if query is None else query.shape[-1],
            layers=max(numbers) + 1 if numbers else None,
            head_hidden=None if hidden is None else hidden.shape[0],
            segmentation_hidden=None if project is None else project.shape[0],
            batch_norm=any(k.startswith("segmentation.") and k.endswith(".running_mean") for k in tensors),
            adapters=_adapters(tensors, family=family, where=where),
        )


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """Where tensors and experiment differ: in words, and the `key=value` that fixes it, if one does.

    `settled`: the tensors leave no doubt, so it is fixed without asking, and reported.
    """

    said: str
    change: str | None = None
    settled: bool = False


def disagreements(facts: Facts, experiment: Experiment) -> list[Disagreement]:
    """All that keeps a checkpoint's tensors from fitting an experiment's model."""
    spec, head, decoder = experiment.backbone, experiment.head, experiment.decoder
    found = []
    if facts.width not in (None, spec.width) or facts.layers not in (None, spec.layers):
        theirs = f"width {facts.width}" + (f" and {facts.layers} layers" if facts.layers else "")
        remedy = "say --scale tiny, or set backbone.width, backbone.layers and backbone.heads"
        ours = f"width {spec.width} and {spec.layers} layers"
        found.append(Disagreement(said=f"{theirs} in the file, {ours} in the experiment ({remedy})"))
    if isinstance(head, MLPHead) and facts.head_hidden not in (None, head.hidden):
        said = f"a head of {facts.head_hidden} hidden units in the file, {head.hidden} in the experiment"
        found.append(Disagreement(said=said, change=f"head.hidden={facts.head_hidden}"))
    if facts.segmentation_hidden is not None and decoder is None:
        said = "a segmentation decoder in the file, none in the experiment: choose one with a decoder (e08 to e12)"
        found.append(Disagreement(said=said))
    if facts.segmentation_hidden is not None and decoder is not None:
        found += _decoder(facts, hidden=decoder.hidden, groups=decoder.groups)
    return found + _of_adapters(facts.adapters, experiment)


def _decoder(facts: Facts, *, hidden: int, groups: int | None) -> list[Disagreement]:
    found = []
    if facts.segmentation_hidden != hidden:
        said = f"a decoder of {facts.segmentation_hidden} channels in the file, {hidden} in the experiment"
        found.append(Disagreement(said=said, change=f"heads.segmentation.hidden={facts.segmentation_hidden}"))
    if facts.batch_norm != (groups is None):
        kinds = ("BatchNorm", "GroupNorm") if facts.batch_norm else ("GroupNorm", "BatchNorm")
        change = f"heads.segmentation.groups={None if facts.batch_norm else _GROUPS}"
        said = f"{kinds[0]} in the file's decoder, {kinds[1]} in the experiment"
        found.append(Disagreement(said=said, change=change, settled=facts.batch_norm))
    return found


def _of_adapters(adapters: Adapters | None, experiment: Experiment) -> list[Disagreement]:
    place, lora = lora_of(experiment)
    if adapters is None and lora is None:
        return []
    if adapters is None or lora is None:
        theirs = "none" if adapters is None else _in_words(adapters.rank, adapters.targets)
        ours = "none" if lora is None else _in_words(lora.rank, _roles(lora, experiment))
        return [Disagreement(said=f"adapters: {theirs} in the file, {ours} in the experiment: choose another one")]
    depth = experiment.backbone.layers
    own = tuple(sorted({n % depth for n in lora.layers or range(depth)}))
    pairs: dict[str, tuple[Any, Any]] = {
        "rank": (adapters.rank, lora.rank),
        "targets": (adapters.targets, _roles(lora, experiment)),
        "layers": (adapters.layers, own),
        "dora": (adapters.dora, lora.dora),
    }
    return [
        Disagreement(
            said=f"adapter {name} {_text(theirs)} in the file, {_text(ours)} in the experiment",
            change=f"{place}.{name}={_text(theirs)}",
        )
        for name, (theirs, ours) in pairs.items()
        if theirs != ours
    ]


def lora_of(experiment: Experiment) -> tuple[str, LoRA | None]:
    """The adapter that an experiment's stages put in, and the field it stands in."""
    places = ("train", *(f"then.{i}" for i in range(len(experiment.then))))
    for place, stage in zip(places, experiment.stages, strict=True):
        if isinstance(stage.adaptation, LoRA):
            return f"{place}.adaptation", stage.adaptation
    return "", None


def nearest(facts: Facts, *, scale: str) -> tuple[Found, list[str]]:
    """The shipped experiment with the fewest disagreements, the plainest of equals, and the others that fit as well."""
    ranked = []
    for name in names():
        found = find(name)
        experiment = scaled(found.experiment, scale)
        if not isinstance(experiment.backbone, facts.family):
            continue
        if (facts.segmentation_hidden is None) != (experiment.decoder is None):
            continue
        open_ones = [d for d in disagreements(facts, experiment) if not d.settled]
        place = _PLAIN.index(name) if name in _PLAIN else len(_PLAIN)
        # A disagreement that no setting fixes counts most: adapters where there are none, another size.
        distance = sum(1 if d.change else 100 for d in open_ones)
        masked = experiment.masking is not None  # which no tensor shows, and which would change every score
        ranked.append(((distance, place, masked, name), found))
    if not ranked:
        raise CalotError(f"no shipped experiment has a {facts.family.name}: name one of your own with --experiment")
    ((best, *_), chosen), *rest = sorted(ranked, key=lambda item: item[0])
    return chosen, [key[-1] for key, _ in rest if key[0] == best]


def _adapters(tensors: Mapping[str, Tensor], *, family: type[BackboneSpec], where: str) -> Adapters | None:
    found: dict[tuple[int, str], set[str]] = {}
    ranks: set[int] = set()
    for name, tensor in tensors.items():
        if ".lora_" not in name or _MAGNITUDE in name:
            continue
        linear, side = family.adapted_linear(name.removeprefix(_NETWORK)), _SIDE.fullmatch(name)
        if linear is None or side is None:
            raise CalotError(f"{where}: {name}: an adapter where calot puts none; it would change every score")
        found.setdefault(linear, set()).add(side[1])
        ranks.add(tensor.shape[0 if side[1] == "A" else 1])
    if not found:
        return None
    layers = tuple(sorted({layer for layer, _ in found}))
    targets = tuple(t for t in family.layout.linears if any(t == target for _, target in found))
    whole = len(found) == len(layers) * len(targets) and all(len(sides) == 2 for sides in found.values())
    if not whole or len(ranks) != 1:
        raise CalotError(
            f"{where}: adapters of ranks {sorted(ranks)} on {len(found)} linears of {', '.join(targets)} in "
            f"{len(layers)} layers, some without their other half: not the same adapter in each layer"
        )
    return Adapters(rank=ranks.pop(), targets=targets, layers=layers, dora=any(_MAGNITUDE in k for k in tensors))


def _roles(lora: LoRA, experiment: Experiment) -> tuple[str, ...]:
    return tuple(role for role in experiment.backbone.layout.linears if role in lora.roles)


def _in_words(rank: int, targets: tuple[str, ...]) -> str:
    return f"rank {rank} on {', '.join(targets)}"


def _text(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
