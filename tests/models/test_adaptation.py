"""What trains, at which rate, and what an adapter is: on an encoder of 4 layers, and by count at full size."""

import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import VJEPA2Model

from calot.cli.main import main
from calot.errors import CalotError
from calot.models.adaptation import (
    Adaptation,
    Frozen,
    FullFineTune,
    LoRA,
    Unfreeze,
    load_adapter,
    merge_adapter,
    save_adapter,
)
from calot.models.backbones.protocol import Backbone
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.classifier import Classifier
from calot.models.heads import LinearHead
from calot.models.pooling import MeanPooling
from calot.types import Batch

SPEC = VJEPA2(weights=None, size=32, frames=4, patch=8, width=64, layers=4, heads=1)
CLIP = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def _backbone(*, drop_path: float = 0.0) -> Backbone:
    torch.manual_seed(0)
    return VJEPA2(**{**vars(SPEC), "drop_path": drop_path}).build().eval()


def _with_predictor() -> Backbone:
    """The encoder of `_backbone` beside a predictor, as a checkpoint of the hub holds it."""
    plain = _backbone()
    whole = VJEPA2Model(plain.model.config)
    whole.encoder.load_state_dict(plain.model.encoder.state_dict())
    return Backbone(whole, spec=SPEC).eval()


def _drawn(backbone: Backbone) -> Backbone:
    """Every adapter weight drawn anew, as if trained."""
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, p in backbone.named_parameters():
            if ".lora_" in name:
                p.add_(0.1 * torch.randn(p.shape, generator=g))
    return backbone


def _trained(backbone: nn.Module) -> set[str]:
    return {n for n, p in backbone.named_parameters() if p.requires_grad}


def _values(backbone: Backbone) -> Tensor:
    with torch.no_grad():
        return backbone.eval()(CLIP).values


def _counts(name: str, *changes: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`calot experiments show NAME --scale full --params --json`, in this process."""
    words = ["calot", "experiments", "show", name, *changes, "--scale", "full", "--params", "--json"]
    monkeypatch.setattr(sys, "argv", words)
    with redirect_stdout(StringIO()) as out, pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (None, 0)
    return json.loads(out.getvalue())["parameters"]


@pytest.mark.parametrize("build", [_backbone, _with_predictor], ids=["encoder alone", "with a predictor"])
def test_lora_starts_as_identity_and_trains_only_adapters_of_the_encoder(build: Callable[[], Backbone]) -> None:
    backbone = build()
    before, weights = _values(backbone), {n: p.clone() for n, p in backbone.named_parameters()}
    (group,) = LoRA(rank=4, alpha=8, targets=("q", "k", "v", "proj"), lr=3e-4).apply(backbone)
    assert torch.equal(_values(backbone), before)
    assert (group.name, group.lr, len(group.parameters)) == ("lora", 3e-4, 4 * 4 * 2)
    trained = _trained(backbone)
    assert len(trained) == len(group.parameters)
    assert all(".lora_" in n and n.startswith("model.encoder.layer.") for n in trained)
    kept = {n.replace(".base_layer.", "."): p for n, p in backbone.named_parameters() if ".lora_" not in n}
    assert kept.keys() == weights.keys()
    assert all(torch.equal(kept[n], weights[n]) for n in weights)


def test_a_step_moves_every_adapter_and_nothing_else() -> None:
    backbone = _drawn(_adapted(LoRA(rank=4, targets=("q", "v", "proj", "fc1", "fc2"), dropout=0.0)))
    before = {n: p.clone() for n, p in backbone.named_parameters()}
    optimiser = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=1.0)
    backbone.train()(CLIP).values.square().mean().backward()
    optimiser.step()
    moved = {n for n, p in backbone.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n in before if ".lora_" in n}


def _adapted(lora: LoRA, backbone: Backbone | None = None) -> Backbone:
    backbone = _backbone() if backbone is None else backbone
    lora.apply(backbone)
    return backbone


@pytest.mark.parametrize(
    ("name", "lora", "trainable"),
    [
        ("e10a_lora_r16", 1_572_864, 7_223_432),
        ("e10b_documented", 3_145_728, None),
        ("e10b_lora_r32_qkv", 4_718_592, 10_369_160),
        ("e12_regularized", 4_718_592, 10_369_160),
        ("lora_q", 4_718_592, None),
        ("lora_k", 4_718_592, None),
        ("lora_v", 4_718_592, None),
        ("lora_qk", 4_718_592, None),
        ("lora_r64", 9_437_184, None),
        ("lora_r128", 18_874_368, None),
        ("lora_layers_18_23", 4_718_592 // 4, None),
    ],
)
def test_full_size_counts_are_the_documented_ones(
    name: str, lora: int, trainable: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = _counts(name, monkeypatch=monkeypatch)
    assert counts["groups"]["lora"] == lora
    assert counts["trainable"] == (lora + 5_650_568 if trainable is None else trainable)
    parts = {k: counts["groups"][k] for k in ("pooling", "head", "segmentation")}
    assert parts == {"pooling": 4_201_472, "head": 528_387, "segmentation": 920_709}
    assert counts["total"] == sum(counts["groups"].values())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("train.adaptation.targets=[q,k,v,proj]", 4 * 24 * 32 * 2048),
        ("train.adaptation.targets=[fc1,fc2]", 2 * 24 * 32 * (1024 + 4096)),
        ("train.adaptation.layers=[-1,0]", 3 * 2 * 32 * 2048),
        ("train.adaptation.layers=[-1,23]", 3 * 1 * 32 * 2048),
        ("train.adaptation.dora=True", 4_718_592 + 3 * 24 * 1024),
    ],
)
def test_targets_layers_and_dora_count_as_reckoned_by_hand(
    change: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _counts("e10b_lora_r32_qkv", change, monkeypatch=monkeypatch)["groups"]["lora"] == expected


@pytest.mark.parametrize(
    "adaptation",
    [
        Frozen(),
        FullFineTune(),
        Unfreeze(layers=2),
        Unfreeze(layers=1, final_norm=False),
        LoRA(rank=4, targets=("q", "fc1", "fc2"), layers=(0, -1)),
        LoRA(rank=4, bias="lora_only"),
        LoRA(rank=4, dora=True),
        LoRA(rank=4, dora=True, bias="lora_only", targets=("k", "proj")),
    ],
    ids=repr,
)
def test_what_is_declared_by_target_is_what_trains(adaptation: Adaptation) -> None:
    backbone = _backbone()
    declared = adaptation.declared(backbone)
    adaptation.apply(backbone)
    found: dict[str, int] = {}
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            target = adaptation.target_of(backbone.place(name))
            found[target] = found.get(target, 0) + parameter.numel()
    assert found == declared


def test_aliases_are_the_same_adapter() -> None:
    short = _drawn(_adapted(LoRA(rank=4, targets=("q", "k", "v", "o"))))
    long = _drawn(_adapted(LoRA(rank=4, targets=("q_proj", "k_proj", "value", "out_proj"))))
    assert _trained(short) == _trained(long)
    assert torch.equal(_values(short), _values(long))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"targets": ("q_prj",)}, 'Did you mean "q_proj"'),
        ({"targets": ("q", "q_proj")}, "names one linear twice"),
        ({"targets": ()}, "needs a target"),
        ({"bias": "all"}, "expected one of none, lora_only"),
    ],
)
def test_a_setting_that_means_nothing_is_an_error_when_it_is_written(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoRA(**fields)


def test_a_target_that_matches_nothing_in_the_model_is_an_error() -> None:
    """peft itself accepts a list of targets of which one is missing: the study's e10b adapted no key."""
    backbone = _backbone()
    for layer in backbone.model.encoder.layer:
        layer.attention.add_module("k_proj", layer.attention.key)
        del layer.attention.key
    with pytest.raises(CalotError, match=r"targets=\('q', 'k'\) matched 4 linears, need 2 in each of 4 layers"):
        LoRA(rank=4, targets=("q", "k")).apply(backbone)


def test_layers_that_the_encoder_lacks_are_errors() -> None:
    with pytest.raises(CalotError, match=r"\[4, -5\] are not layers of an encoder of 4"):
        LoRA(rank=4, layers=(0, 4, -5)).apply(_backbone())
    with pytest.raises(CalotError, match=r"Unfreeze.layers=5: this encoder has 4 layers"):
        Unfreeze(layers=5).apply(_backbone())
    with pytest.raises(CalotError, match=r"Unfreeze.layers=0: expected a whole number from 1"):
        Unfreeze(layers=0)


def test_the_same_adapter_twice_is_one_and_another_is_refused() -> None:
    backbone = _drawn(_adapted(LoRA(rank=4)))
    before = _values(backbone)
    (group,) = LoRA(rank=4, lr=1e-6).apply(backbone)
    assert (group.lr, torch.equal(_values(backbone), before)) == (1e-6, True)
    with pytest.raises(CalotError, match="is another adapter"):
        LoRA(rank=8).apply(backbone)


SAVED = {
    "lora": LoRA(rank=4, alpha=8, targets=("q", "k", "v", "fc2")),
    "layers": LoRA(rank=4, targets=("q", "v"), layers=(1, -1)),
    "dora": LoRA(rank=4, targets=("q", "v", "proj"), dora=True),
    "bias": LoRA(rank=4, targets=("q", "v"), bias="lora_only"),
}


def _tuned(lora: LoRA) -> Backbone:
    """An adapter whose weights, own biases included, are no longer those it began with."""
    backbone = _drawn(_adapted(lora))
    with torch.no_grad():
        for name, p in backbone.named_parameters():
            if p.requires_grad and name.endswith("bias"):
                p.add_(0.3)
    return backbone


@pytest.mark.parametrize("kind", SAVED)
def test_a_saved_adapter_is_peft_s_own_and_gives_equal_outputs_on_a_plain_model(kind: str, tmp_path: Path) -> None:
    backbone = _tuned(SAVED[kind])
    expected = _values(backbone)
    assert not torch.allclose(expected, _values(_backbone()), atol=1e-3), "the adapter must act, or this test is blind"
    save_adapter(backbone, tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(_with_predictor().model, tmp_path / "adapter").eval()
    with torch.no_grad():
        found = loaded(pixel_values_videos=CLIP, skip_predictor=True).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert not any("predictor" in n for n, _ in loaded.named_parameters() if ".lora_" in n)


@pytest.mark.parametrize("kind", SAVED)
def test_a_saved_adapter_comes_back_into_a_backbone(kind: str, tmp_path: Path) -> None:
    backbone = _tuned(SAVED[kind])
    save_adapter(backbone, tmp_path / "adapter")
    again = _backbone()
    load_adapter(again, tmp_path / "adapter", lora=SAVED[kind])
    assert torch.equal(_values(again), _values(backbone))
    assert again.adapter == SAVED[kind]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": 16}, "lora_alpha 8 where the experiment says 16"),
        ({"rank": 2}, "r 4 where the experiment says 2"),
        ({"targets": ("q", "k", "v")}, "other linears"),
        ({"targets": ("q", "k", "v", "fc1", "fc2")}, "other linears"),
    ],
)
def test_an_adapter_of_other_settings_is_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_adapter(_tuned(SAVED["lora"]), tmp_path)
    wanted = LoRA(**{**vars(SAVED["lora"]), **fields})
    with pytest.raises(CalotError, match=message):
        load_adapter(_backbone(), tmp_path, lora=wanted)


@pytest.mark.parametrize("kind", SAVED)
def test_merging_leaves_the_outputs_and_a_plain_encoder(kind: str) -> None:
    backbone = _tuned(SAVED[kind])
    expected = _values(backbone)
    merge_adapter(backbone)
    assert (_values(backbone) - expected).abs().max() < 1e-5
    assert backbone.state_dict().keys() == _backbone().state_dict().keys()


def test_unfreezing_opens_the_last_layers_with_or_without_the_final_norm() -> None:
    for final_norm in (True, False):
        backbone = _backbone()
        (group,) = Unfreeze(layers=2, lr=1e-5, final_norm=final_norm).apply(backbone)
        parts = {n.split("encoder.")[1].split(".weight")[0].split(".bias")[0] for n in _trained(backbone)}
        layers = {".".join(p.split(".")[:2]) for p in parts if p.startswith("layer.")}
        assert layers == {"layer.2", "layer.3"}
        assert ("layernorm" in parts) == final_norm
        assert (group.name, group.lr, len(group.parameters)) == ("backbone", 1e-5, len(_trained(backbone)))


def test_layer_decay_lowers_the_rate_by_its_factor_a_layer_from_the_top() -> None:
    backbone = _backbone()
    groups = Unfreeze(layers=3, lr=1e-4, layer_decay=0.5).apply(backbone)
    names = {id(p): n for n, p in backbone.named_parameters()}
    rates = {n: g.lr for g in groups for n in {names[id(p)].split("encoder.")[1] for p in g.parameters}}
    assert len(rates) == len(_trained(backbone))
    expected = {"layernorm": 1e-4, "layer.3": 1e-4, "layer.2": 0.5e-4, "layer.1": 0.25e-4}
    for name, rate in rates.items():
        assert rate == pytest.approx(next(v for k, v in expected.items() if name.startswith(k + "."))), name


def test_full_fine_tuning_with_decay_gives_the_embedding_the_lowest_rate() -> None:
    groups = FullFineTune(lr=1e-4, layer_decay=0.5).apply(_backbone())
    assert [g.lr for g in groups] == pytest.approx([1e-4 * 0.5**k for k in (4, 3, 2, 1, 0, 0)])


@pytest.mark.parametrize(
    ("adaptation", "first"),
    [
        (Unfreeze(layers=1), 3),
        (Unfreeze(layers=2), 2),
        (LoRA(rank=4, targets=("v",), layers=(2, 3)), 2),
        (LoRA(rank=4, targets=("q",), layers=(-1,)), 3),
        (LoRA(rank=4), 0),
        (FullFineTune(), None),
    ],
    ids=repr,
)
def test_there_is_no_graph_below_the_first_trainable_layer(adaptation: Adaptation, first: int | None) -> None:
    """What enters a layer needs no gradient up to the first that trains, and does so in every layer above."""
    backbone = _backbone()
    adaptation.apply(backbone)
    entering: list[bool] = []
    for layer in backbone.model.encoder.layer:
        layer.register_forward_pre_hook(lambda _m, args: entering.append(args[0].requires_grad))
    backbone.train()(CLIP)
    assert entering == [first is None or i > first for i in range(4)]


def _classifier(adaptation: Adaptation, *, drop_path: float) -> Classifier:
    backbone = _backbone(drop_path=drop_path)
    adaptation.apply(backbone)
    return Classifier(backbone=backbone, pooling=MeanPooling(), heads=[LinearHead()]).train()


def _spread(model: Classifier) -> float:
    """How far two passes over the same clips lie apart."""
    with torch.no_grad():
        one, other = (model(Batch.unlabelled(CLIP.repeat(4, 1, 1, 1, 1))).logits for _ in range(2))
    return float((one - other).abs().max())


def test_drop_path_acts_in_training_and_not_in_evaluation() -> None:
    model = _classifier(FullFineTune(), drop_path=0.5)
    assert _spread(model) > 1e-3
    assert _spread(model.eval()) == 0
    assert _spread(_classifier(FullFineTune(), drop_path=0.0)) == 0


def test_drop_path_grows_from_nothing_at_the_first_layer_to_its_value_at_the_last() -> None:
    encoder = _backbone(drop_path=0.3).model.encoder
    rates = [getattr(layer.drop_path, "drop_prob", 0.0) for layer in encoder.layer]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_layers_in_which_nothing_trains_never_drop() -> None:
    assert _spread(_classifier(Frozen(), drop_path=0.9)) == 0
    for adaptation in (Unfreeze(layers=1), LoRA(rank=4, layers=(3,))):
        layers = _classifier(adaptation, drop_path=0.9).backbone.model.encoder.layer
        assert [layer.training for layer in layers] == [False, False, False, True]
        assert [layer.drop_path.training for layer in layers] == [False, False, False, True]


def test_layer_decay_keeps_two_layers_at_any_depth_to_differ_in() -> None:
    assert Unfreeze(layers=6, layer_decay=0.75).at_depth(layers=4, of=24).layers == 2
    assert Unfreeze(layers=6).at_depth(layers=4, of=24).layers == 1
    assert Unfreeze(layers=1, layer_decay=0.75).at_depth(layers=4, of=24).layers == 1
