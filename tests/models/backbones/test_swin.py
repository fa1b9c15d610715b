"""SwinV2 frame by frame: layers that lie in stages are numbered, adapted and counted as any other family's are."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from calot.errors import CalotError
from calot.experiments import find
from calot.models.adaptation import FullFineTune, LoRA, Unfreeze
from calot.models.attention import tapped
from calot.models.backbones.protocol import Backbone
from calot.models.backbones.swin import SwinPerFrame
from calot.models.backbones.view import IMAGENET_MEAN, IMAGENET_STD
from calot.models.masking import AttentionBias
from calot.train.attention_losses import AttentionKL
from calot.train.losses import Term

#: A grid of 2 x 2 tokens on each of 3 frames; 8 layers in stages of 2, with shifted windows in the first two.
SPEC = replace(SwinPerFrame(frames=3).at_tiny_scale(), width=64, heads=2)
ROLES = ("q", "k", "v", "proj", "fc1", "fc2")


@pytest.fixture
def backbone() -> Backbone:
    torch.manual_seed(0)
    return SPEC.build().eval()


@pytest.fixture
def video() -> Tensor:
    return torch.randint(0, 256, (2, 3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def trained(backbone: Backbone) -> set[str]:
    return {backbone.place(n).part for n, p in backbone.named_parameters() if p.requires_grad}


def test_the_full_size_is_swinv2_base_with_window_24() -> None:
    spec = SwinPerFrame()
    with torch.device("meta"):
        model = spec.build_without_weights()
    assert spec.grid == (16, 12, 12)
    assert spec.depths == (2, 2, 18, 2)
    assert len(model.layers) == spec.layers == 24
    assert sum(p.numel() for p in model.parameters()) == 86_893_816
    first, last = model.layers[1], model.layers[23]
    assert (first.window_size, first.shift_size, last.window_size, last.shift_size) == (24, 12, 12, 0)
    assert [layer.attention.self.num_attention_heads for layer in model.layers[::2]] == [4, 8, *[16] * 9, 32]


def test_its_tokens_are_transformers_own_frame_by_frame(backbone: Backbone, video: Tensor) -> None:
    exact = copy.deepcopy(backbone).double()
    with torch.no_grad():
        tokens = exact(video).values.unflatten(1, (3, 4))
        mean, std = (torch.tensor(x, dtype=torch.float64).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
        for frame in range(3):
            alone = exact.model((video[:, frame] / 255 - mean) / std).last_hidden_state
            torch.testing.assert_close(tokens[:, frame], alone, rtol=1e-5, atol=1e-5)  # pixels are scaled in float32


def test_a_frame_changes_its_own_tokens_alone(backbone: Backbone, video: Tensor) -> None:
    changed = video.clone()
    changed[:, 1, :, :32, 32:] = 255
    with torch.no_grad():
        apart = (backbone(changed).values - backbone(video).values).norm(dim=-1).unflatten(1, (3, 4))
    assert apart[:, [0, 2]].max() == 0
    assert apart[:, 1].argmax(dim=1).tolist() == [1, 1]  # row by row: first row, second column


def test_every_parameter_has_a_place_and_a_gradient(backbone: Backbone, video: Tensor) -> None:
    assert {backbone.height(name) for name, _ in backbone.named_parameters()} == set(range(10))
    FullFineTune().apply(backbone)
    values = backbone.train()(video).values
    (values * torch.randn(values.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_what_merges_patches_belongs_to_the_layer_that_it_leads_into(backbone: Backbone) -> None:
    merging = [n for n, _ in backbone.named_parameters() if ".downsample." in n]
    assert {n.split(".")[3]: backbone.place(n).part for n in merging} == {
        "0": "layer.2",
        "1": "layer.4",
        "2": "layer.6",
    }


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_unfreezing_and_counting_agree(backbone: Backbone, layers: int) -> None:
    adaptation = Unfreeze(layers=layers)
    groups = adaptation.apply(backbone)
    assert trained(backbone) == {f"layer.{n}" for n in range(8 - layers, 8)} | {"final_norm"}
    observed: dict[str, int] = {}
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            part = backbone.place(name).part
            observed[part] = observed.get(part, 0) + parameter.numel()
    assert observed == adaptation.declared(backbone)
    assert sum(p.numel() for g in groups for p in g.parameters) == sum(observed.values())


def test_a_full_fine_tune_declares_every_parameter(backbone: Backbone) -> None:
    assert sum(FullFineTune().declared(backbone).values()) == sum(p.numel() for p in backbone.parameters())


def test_layer_decay_falls_through_all_stages(backbone: Backbone) -> None:
    groups = FullFineTune(lr=1.0, layer_decay=0.5).apply(backbone)
    rates = {id(p): g.lr for g in groups for p in g.parameters}
    assert {rates[id(p)] for p in backbone.embedding.parameters()} == {0.5**8}
    for number in range(8):
        of_layer = {rates[id(p)] for module in backbone.modules_of(number) for p in module.parameters()}
        assert of_layer == {0.5 ** (7 - number)}


@pytest.mark.parametrize("layers", [None, (0, 5, -1)], ids=["all", "three"])
def test_lora_adapts_the_numbered_layers_starts_as_identity_and_is_counted(
    backbone: Backbone, video: Tensor, layers: tuple[int, ...] | None
) -> None:
    before = backbone(video).values
    lora = LoRA(rank=2, targets=ROLES, layers=layers)
    declared = lora.declared(backbone)
    lora.apply(backbone)
    assert torch.equal(backbone(video).values, before)
    assert trained(backbone) == {f"layer.{n}" for n in ((0, 5, 7) if layers else range(8))}
    found: dict[str, int] = {}
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            target = lora.target_of(backbone.place(name))
            found[target] = found.get(target, 0) + parameter.numel()
    assert found == declared == lora.declared(backbone)


def test_only_layers_that_train_draw_a_path() -> None:
    backbone = replace(SPEC, drop_path=0.5).build()
    Unfreeze(layers=2).apply(backbone)
    backbone.train()
    assert [layer.training for layer in backbone.layers] == [False] * 6 + [True] * 2
    assert [getattr(layer.drop_path, "drop_prob", 0.0) for layer in backbone.layers][-1] == 0.5


def test_checkpointing_gives_the_same_gradients_and_computes_again(backbone: Backbone, video: Tensor) -> None:
    checkpointed, calls, found = copy.deepcopy(backbone), [], []
    checkpointed.checkpoint_gradients()
    checkpointed.linear(3, "fc1").register_forward_hook(lambda *_: calls.append(1))
    for each in (backbone.double().train(), checkpointed.double().train()):
        each(video).values.pow(3).sum().backward()
        found.append({n: p.grad for n, p in each.named_parameters()})
    assert len(calls) == 2
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-9, atol=1e-9)


def test_min_max_stretches_each_frame_of_each_clip_by_itself(backbone: Backbone, video: Tensor) -> None:
    """Brightness and contrast that a frame's channels share leave no trace."""
    stretched = replace(SPEC, normalisation="min-max").build()
    stretched.model.load_state_dict(backbone.model.state_dict())
    grey = (video[:, :, :1] // 2).expand(-1, -1, 3, -1, -1).clone()
    dark = grey.clone()
    dark[:, 1] = grey[:, 1] // 2 * 2
    with torch.no_grad():
        (view,) = stretched.spec.views
        frames = view.normalise(grey)
        seen: list[Tensor] = []
        stretched.model.embeddings.register_forward_pre_hook(lambda _m, given: seen.append(given[0]))
        stretched(grey)
        low, high = frames.flatten(2).amin(-1), frames.flatten(2).amax(-1)
        by_hand = (frames - low[..., None, None, None]) / (high - low)[..., None, None, None]
        torch.testing.assert_close(seen[0].unflatten(0, (2, 3)), by_hand)
        assert (seen[0].flatten(1).amin(1) == 0).all()
        torch.testing.assert_close(seen[0].flatten(1).amax(1), torch.ones(6))


def test_reversed_figures_are_those_of_the_channels_in_reversed_order() -> None:
    (view,) = replace(SPEC, normalisation="reversed min-max").views
    assert (view.mean, view.std) == (IMAGENET_MEAN[::-1], IMAGENET_STD[::-1])


def test_attention_that_cannot_be_read_is_told_in_a_line(backbone: Backbone) -> None:
    with pytest.raises(CalotError, match="SwinV2, frame by frame has no seam into its attention"), tapped(backbone):
        pass
    e12 = find("e12_regularized").experiment
    supervised = e12.loss.with_term(Term(name="attention", loss=AttentionKL()))
    for change in ({"masking": AttentionBias()}, {"loss": supervised}):
        with pytest.raises(CalotError, match="no seam into its attention"):
            replace(e12, backbone=SwinPerFrame(), **change)


def test_a_folder_that_transformers_wrote_gives_the_same_tokens(
    backbone: Backbone, video: Tensor, tmp_path: Path
) -> None:
    backbone.model.save_pretrained(tmp_path)
    loaded = replace(SPEC, weights=str(tmp_path)).build().eval()
    assert torch.equal(loaded(video).values, backbone(video).values)
    with pytest.raises(CalotError, match="window_size 4 where the experiment says 2"):
        replace(SPEC, weights=str(tmp_path), window=2).build()


@pytest.mark.parametrize(
    ("wrong", "said"), [({"size": 100}, "size=100"), ({"layers": 6}, "layers=6"), ({"pretrained_window": 2}, "=2")]
)
def test_sizes_that_no_swin_has_are_refused(wrong: dict[str, int], said: str) -> None:
    with pytest.raises(CalotError, match=said):
        replace(SPEC, **wrong)
