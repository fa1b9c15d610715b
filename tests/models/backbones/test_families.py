"""Every family keeps the protocol's promises: held on each one's real network, small.

A family that is added is found here by itself; it must hold all that follows without a line of this file.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calot.config.holding import component_classes
from calot.errors import CalotError
from calot.models.adaptation import FullFineTune, LoRA, Unfreeze
from calot.models.attention import biased, reading, tapped
from calot.models.attention_statistics import attention_entropy, attention_mass, received_attention
from calot.models.backbones.protocol import Backbone, BackboneSpec
from calot.models.backbones.vision_transformer import VisionTransformer
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.checkpoints import EMBEDDED
from calot.types import QueryKey

#: Plain stacks of layers whose attention has a seam; the others have a file of their own each, beside this one.
FAMILIES = [
    c
    for c in component_classes(BackboneSpec)
    if c.__module__.startswith("calot.models.backbones.") and issubclass(c, VisionTransformer) and c.layout.attention
]
ROLES = ("q", "k", "v", "proj", "fc1", "fc2")
WIDTH, LAYERS = 64, 3

pytestmark = pytest.mark.parametrize("family", FAMILIES, ids=lambda c: c.__name__)


def _spec(family: type[BackboneSpec]) -> BackboneSpec:
    sizes: dict[str, Any] = {"weights": None, "size": 32, "width": WIDTH, "layers": LAYERS, "heads": 2}
    sizes |= {"window": 2} if hasattr(family, "window") else {}
    return replace(family().at_tiny_scale(), **sizes).without_dropout()


def _built(spec: BackboneSpec) -> Backbone:
    """With queries and keys sharper than a first draw of 0.02, so that attention is not uniform."""
    torch.manual_seed(0)
    backbone = spec.build()
    for layer in range(LAYERS):
        for role in ("q", "k"):
            nn.init.normal_(backbone.linear(layer, role).weight, std=0.2)
    return backbone.eval()


def _clip(spec: BackboneSpec, *, count: int = 2) -> Tensor:
    shape = (count, spec.frames, 3, spec.size, spec.size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def _adapted(backbone: Backbone, lora: LoRA) -> Backbone:
    """With an adapter that is no identity any more."""
    lora.apply(backbone)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return backbone


def _maps(qk: QueryKey) -> Tensor:
    """Each query's attention on the tokens of its clip, token by token: zero between parts, extra tokens left out."""
    scores = qk.scaling * qk.query.double() @ qk.key.double().mT
    scores = scores + sum(x.double() for x in (qk.bias, qk.between) if x is not None)
    maps = scores.softmax(-1)[:, :, qk.extra :, qk.extra :]
    heads, size = maps.shape[1], maps.shape[2]
    whole = maps.new_zeros(len(maps) // qk.parts, heads, qk.parts * size, qk.parts * size)
    for row, one in enumerate(maps):
        clip, at = divmod(row, qk.parts)
        span = slice(at * size, (at + 1) * size)
        whole[clip, :, span, span] = one
    if qk.order is None:
        return whole
    places = qk.order.argsort()
    return whole[:, :, places][..., places]


def test_it_names_itself_and_its_sizes(family: type[BackboneSpec]) -> None:
    others = [other for other in FAMILIES if other is not family]
    assert family().describe().startswith(f"{family.name}, {family().layers} layers, width {family().width}")
    assert family.name not in {other.name for other in others}
    assert family().describe().endswith(f"; 16 frames of {family().size} x {family().size}")


def test_the_tiny_scale_is_the_embedded_size(family: type[BackboneSpec]) -> None:
    tiny = family().at_tiny_scale()
    assert (tiny.size, tiny.frames, tiny.width, tiny.layers) == (64, 8, 128, 4)
    assert tiny.weights == (EMBEDDED if family is VJEPA2 else None)
    assert tiny.grid[1:] == (8, 8)


def test_tokens_come_in_the_order_of_the_grid(family: type[BackboneSpec]) -> None:
    """A change of one patch in one frame shows most in the token of that place."""
    spec = _spec(family)
    backbone, video = _built(spec), _clip(spec, count=1)
    with torch.no_grad():
        before = backbone(video)
        assert before.grid == spec.grid
        assert before.values.shape == (1, math.prod(spec.grid), WIDTH)
        bins, rows, columns = spec.grid
        side = spec.size // rows
        for frame, row, column in ((0, 0, 0), (spec.frames - 1, rows - 1, 0), (3, 1, columns - 1), (4, 2, 1)):
            changed = video.clone()
            changed[:, frame, :, row * side : (row + 1) * side, column * side : (column + 1) * side] = 255
            moved = (backbone(changed).values - before.values).norm(dim=-1)[0].reshape(spec.grid)
            place = int(spec.bin_of(torch.tensor(frame)))
            assert divmod(int(moved.argmax()), rows * columns) == (place, row * columns + column)
    assert [int(b) for b in spec.bin_of(torch.tensor([0, spec.frames - 1]))] == [0, bins - 1]


def test_every_parameter_has_a_place_and_a_gradient(family: type[BackboneSpec]) -> None:
    """No height is guessed, and nothing is kept that the tokens do not hang on."""
    spec = _spec(family)
    backbone = _built(spec)
    heights = {backbone.height(name) for name, _ in backbone.named_parameters()}
    assert heights == set(range(LAYERS + 2))
    FullFineTune().apply(backbone)
    values = backbone.train()(_clip(spec)).values
    (values * torch.randn(values.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_layer_decay_falls_from_the_final_norm_to_the_embedding(family: type[BackboneSpec]) -> None:
    backbone = _built(_spec(family))
    groups = FullFineTune(lr=1.0, layer_decay=0.5).apply(backbone)
    assert [g.lr for g in groups] == [0.5**k for k in (3, 2, 1, 0, 0)]
    rates = {id(p): g.lr for g in groups for p in g.parameters}
    assert {rates[id(p)] for p in backbone.embedding.parameters()} == {0.125}
    assert {rates[id(p)] for p in backbone.layers[1].parameters()} == {0.5}
    assert {rates[id(p)] for p in backbone.final_norm.parameters()} == {1.0}


@pytest.mark.parametrize("role", ROLES)
def test_each_linear_does_what_its_role_says(family: type[BackboneSpec], role: str) -> None:
    """Queries hang on q alone, keys on k, values on v, the attention's output on proj, the layer's on all."""
    spec = _spec(family)
    backbone, video = _built(spec), _clip(spec)

    def seen() -> dict[str, Tensor]:
        with torch.no_grad(), reading(backbone, layer=1) as layer:
            tokens = backbone(video).values
        assert layer.query_key is not None
        assert layer.values is not None
        return {"q": layer.query_key.query, "k": layer.query_key.key, "v": layer.values, "tokens": tokens}

    before = seen()
    with torch.no_grad():
        backbone.linear(1, role).weight.mul_(1.5)
    after = seen()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"tokens"} | ({role} & {"q", "k", "v"})


def test_the_linears_have_the_sizes_that_an_adapter_is_counted_by(family: type[BackboneSpec]) -> None:
    backbone = _built(_spec(family))
    shapes = {role: backbone.linear_shape(0, role) for role in ROLES}
    assert shapes == {**dict.fromkeys(ROLES, (WIDTH, WIDTH)), "fc1": (WIDTH, 4 * WIDTH), "fc2": (4 * WIDTH, WIDTH)}
    for role in ROLES:
        assert tuple(backbone.linear(0, role).weight.shape) == shapes[role][::-1]


@pytest.mark.parametrize("hidden", [0, 5], ids=["plain", "biased"])
def test_what_is_tapped_rebuilds_what_the_layer_mixes_also_under_an_adapter(
    family: type[BackboneSpec], hidden: int
) -> None:
    spec = _spec(family)
    backbone, video = _adapted(_built(spec), LoRA(rank=4, targets=("q", "k", "v"))).double(), _clip(spec)
    bias = torch.where(torch.arange(math.prod(spec.grid)) < hidden, -1e4, 0.0).expand(2, 1, 1, -1)
    with torch.no_grad(), biased(backbone, bias=bias), reading(backbone, layer=-1) as layer:
        backbone(video)
    assert layer.mixed is not None
    rebuilt, mixed = layer.rebuilt(), layer.mixed.flatten(2)
    torch.testing.assert_close(rebuilt, mixed, rtol=1e-9, atol=1e-12)
    assert (mixed[:, :1] - mixed).abs().max() > 1e-2, "attention must not be uniform, or this test is blind"


def test_statistics_are_those_of_the_map_written_out(family: type[BackboneSpec]) -> None:
    spec = _spec(family)
    backbone, video = _built(spec), _clip(spec)
    tokens = math.prod(spec.grid)
    with torch.no_grad(), tapped(backbone, layers=(0,)) as found:
        backbone(video)
        qk = found[0]
        maps = _maps(qk)
        sets = torch.rand(2, tokens, generator=torch.Generator().manual_seed(4)) < 0.3
        mass = attention_mass(qk, sets.float())
        expected = (maps * sets[:, None, None].double()).sum(-1)
        torch.testing.assert_close(mass.double(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(received_attention(qk).double(), maps.mean(dim=(1, 2)), rtol=1e-5, atol=1e-8)
        entropy = attention_entropy(qk)
    assert entropy.shape == (2, 2, tokens)
    if not spec.extra_tokens:
        torch.testing.assert_close(entropy.double(), -torch.xlogy(maps, maps).sum(-1), rtol=1e-4, atol=1e-5)
    part = qk.of(torch.tensor([1]))
    torch.testing.assert_close(received_attention(part), received_attention(qk)[1:])
    assert maps.sum(-1).max() <= 1 + 1e-9


def test_a_hidden_token_gets_no_attention_in_the_chosen_layers_alone(family: type[BackboneSpec]) -> None:
    spec = _spec(family)
    backbone, video, tokens = _built(spec), _clip(spec), math.prod(spec.grid)
    hidden = torch.zeros(2, tokens)
    hidden[0, 1:28:4], hidden[1, tokens // 2 + 1 : tokens // 2 + 30 : 4] = 1.0, 1.0  # another set in each clip
    with (
        torch.no_grad(),
        biased(backbone, bias=-1e4 * hidden[:, None, None], layers=(1,)),
        tapped(backbone, layers=range(LAYERS)) as seen,
    ):
        backbone(video)
    mass = [attention_mass(seen[i], hidden).mean().item() for i in range(LAYERS)]
    assert mass[1] == 0
    assert min(mass[0], mass[2]) > 1e-3


def test_terms_on_received_attention_train_queries_and_keys(family: type[BackboneSpec]) -> None:
    """The fused gradient is that of the map written out."""
    spec = _spec(family)
    backbone, video = _built(spec).double(), _clip(spec)
    weights = torch.randn(2, math.prod(spec.grid), generator=torch.Generator().manual_seed(5)).double()

    def gradients(received: Callable[[QueryKey], Tensor]) -> list[Tensor]:
        backbone.zero_grad()
        with tapped(backbone, layers=(1,)) as seen:
            backbone(video)
        (received(seen[1]) * weights).sum().backward()
        return [backbone.linear(1, role).weight.grad.clone() for role in ("q", "k")]

    ours = gradients(received_attention)
    written_out = gradients(lambda qk: _maps(qk).mean(dim=(1, 2)))
    assert all(g.norm() > 0 for g in written_out)
    torch.testing.assert_close(ours, written_out, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("adapt", [False, True], ids=["full", "lora"])
def test_checkpointing_gives_the_same_gradients_and_each_tap_once(family: type[BackboneSpec], adapt: bool) -> None:
    spec = _spec(family)
    plain = _adapted(_built(spec), LoRA(rank=4, dropout=0.0)) if adapt else _built(spec)
    checkpointed = copy.deepcopy(plain)
    checkpointed.checkpoint_gradients()
    kept: list[int] = []
    checkpointed.layers[1].register_forward_hook(lambda *_: kept.append(1))
    found = []
    for backbone in (plain.train(), checkpointed.train()):
        with tapped(backbone, layers=(1, -1)) as seen:
            values = backbone(_clip(spec)).values
            first = dict(seen)
            (values.pow(3).sum() + attention_entropy(seen[1]).sum()).backward()
        assert all(seen[i] is first[i] for i in first)
        found.append({n: p.grad for n, p in backbone.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-5)


def test_checkpointing_calls_a_layers_parts_again_in_the_backward_pass(family: type[BackboneSpec]) -> None:
    spec = _spec(family)
    calls = {}
    for checkpointed in (False, True):
        backbone = _built(spec).train()
        if checkpointed:
            backbone.checkpoint_gradients()
        count: list[int] = []
        backbone.linear(1, "fc1").register_forward_hook(lambda *_, count=count: count.append(1))
        backbone(_clip(spec)).values.sum().backward()
        calls[checkpointed] = len(count)
    assert calls == {False: 1, True: 2}


@pytest.mark.parametrize("targets", [("q", "v"), ("q", "k", "v"), ROLES], ids=len)
def test_lora_starts_as_identity_and_trains_what_it_declares(
    family: type[BackboneSpec], targets: tuple[str, ...]
) -> None:
    backbone, video = _built(_spec(family)).requires_grad_(False), _clip(_spec(family))
    before = backbone(video).values  # frozen: a kernel may round another way where a position bias trains
    lora = LoRA(rank=4, targets=targets, layers=(0, -1))
    declared = lora.declared(backbone)
    lora.apply(backbone)
    assert torch.equal(backbone(video).values, before)
    trained = [(n, p) for n, p in backbone.named_parameters() if p.requires_grad]
    found: dict[str, int] = {}
    for name, parameter in trained:
        assert ".lora_" in name
        assert backbone.height(name) in (1, LAYERS)
        target = lora.target_of(backbone.place(name))
        found[target] = found.get(target, 0) + parameter.numel()
    assert found == declared == lora.declared(backbone)


def test_what_stays_frozen_stays_in_evaluation_mode(family: type[BackboneSpec]) -> None:
    backbone = _built(_spec(family))
    Unfreeze(layers=1, final_norm=False).apply(backbone)
    backbone.train()
    assert [layer.training for layer in backbone.layers] == [False, False, True]
    trained = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert {backbone.place(n).part for n in trained} == {f"layer.{LAYERS - 1}"}


def test_without_dropout_nothing_is_left_to_chance(family: type[BackboneSpec]) -> None:
    spec = _spec(family)
    if hasattr(spec, "drop_path"):
        spec = replace(spec, drop_path=0.9)  # type: ignore[call-arg]
    apart = {}
    for name, each in (("with", spec), ("without", spec.without_dropout())):
        backbone, video = _built(each).train(), _clip(each, count=4)
        one, other = (backbone(video).values for _ in range(2))
        apart[name] = bool((one != other).any())
    assert apart == {"with": hasattr(spec, "drop_path"), "without": False}


def test_it_is_counted_without_memory(family: type[BackboneSpec]) -> None:
    spec = _spec(family)
    with torch.device("meta"):
        backbone = spec.build_without_weights()
    counted = {n: p.shape for n, p in backbone.named_parameters()}
    assert counted == {n: p.shape for n, p in _built(spec).named_parameters()}


def test_a_folder_that_transformers_wrote_gives_the_same_tokens(family: type[BackboneSpec], tmp_path: Path) -> None:
    spec = _spec(family)
    backbone = _built(spec)
    backbone.model.save_pretrained(tmp_path)
    loaded = replace(spec, weights=str(tmp_path)).build().eval()
    assert torch.equal(loaded(_clip(spec)).values, backbone(_clip(spec)).values)
    with pytest.raises(CalotError, match=f"num_hidden_layers {LAYERS} where the experiment says 2"):
        replace(spec, weights=str(tmp_path), layers=2).build()


def test_what_enters_a_layer_leads_to_the_same_tokens(family: type[BackboneSpec]) -> None:
    """In float64, below and above each layer and the final norm; or it says why it cannot be parted."""
    backbone = _built(_spec(family)).double()
    clips = _clip(backbone.spec)
    if backbone.spec.undivided is not None:
        with pytest.raises(NotImplementedError, match=re.escape(backbone.spec.undivided)):
            backbone.below(clips, layer=1)
        return
    whole = backbone(clips)
    for layer in range(len(backbone.layers) + 1):
        entering = backbone.below(clips, layer=layer)
        assert entering.entering == layer
        assert not torch.allclose(entering.values, whole.values)
        found = backbone.above(entering)
        assert (found.entering, found.grid) == (None, whole.grid)
        torch.testing.assert_close(found.values, whole.values, atol=1e-12, rtol=0)
