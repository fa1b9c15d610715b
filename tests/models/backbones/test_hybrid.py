"""The hybrid: SwinV2's tokens through V-JEPA 2's last blocks, equal to those blocks run by hand; parts train apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from calot.errors import CalotError
from calot.experiment import scaled
from calot.experiments import find
from calot.models.adaptation import Frozen, FullFineTune, LoRA, Unfreeze
from calot.models.adaptation_by_part import InParts
from calot.models.attention import tapped
from calot.models.backbones.hybrid import SwinVJEPA
from calot.models.backbones.protocol import Backbone
from calot.models.backbones.vjepa2 import VJEPA2

SPEC = replace(scaled(find("e14_hybrid").experiment, "tiny").backbone, layers=2)


@pytest.fixture
def backbone() -> Backbone:
    torch.manual_seed(0)
    return SPEC.build().eval()


@pytest.fixture
def video() -> Tensor:
    return torch.randint(0, 256, (2, 8, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_the_full_size_takes_blocks_18_to_23_on_a_grid_of_12() -> None:
    spec = SwinVJEPA()
    assert spec.grid == (8, 12, 12)
    assert spec.of_blocks.size == 192
    assert spec.of_blocks.pruning is not None
    assert spec.of_blocks.pruning.kept(6) == (18, 19, 20, 21, 22, 23)


def test_it_equals_the_blocks_of_a_vjepa_encoder_run_by_hand(backbone: Backbone, video: Tensor) -> None:
    """transformers' encoder built for the 4 x 4 grid, its last two blocks ours, run on the same joined tokens."""
    from transformers import VJEPA2Config, VJEPA2Model

    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2, "pred_num_hidden_layers": 1}
    whole = VJEPA2Model(VJEPA2Config(crop_size=32, patch_size=8, frames_per_clip=8, **sizes)).encoder.eval()
    for ours, theirs in zip(backbone.layers, whole.layer[2:], strict=True):
        theirs.load_state_dict(ours.state_dict())
    whole.layernorm.load_state_dict(backbone.final_norm.state_dict())
    with torch.no_grad():
        frames = backbone.inner(video).values.unflatten(1, (8, 16))
        join = backbone.model["fresh"]["join"]
        hidden = torch.cat([join(torch.cat([frames[:, t], frames[:, t + 1]], dim=-1)) for t in (0, 2, 4, 6)], dim=1)
        for block in whole.layer[2:]:
            hidden = block(hidden, None)[0]
        torch.testing.assert_close(backbone(video).values, whole.layernorm(hidden), rtol=1e-5, atol=1e-6)


def test_rotary_positions_are_those_of_a_model_built_for_12_x_12() -> None:
    from transformers import VJEPA2Config, VJEPA2Model

    spec = replace(SwinVJEPA().of_blocks, weights=None, width=64, heads=1, layers=1, pruning=None)
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "pred_num_hidden_layers": 1}
    plain = VJEPA2Model(VJEPA2Config(crop_size=192, patch_size=16, frames_per_clip=16, **sizes)).encoder.layer[0]
    ours = spec.build().model.encoder.layer[0]
    ids = [module.attention.get_position_ids(torch.zeros(1, 8 * 12 * 12, 64)) for module in (ours, plain)]
    for mine, theirs in zip(*ids, strict=True):
        assert torch.equal(mine, theirs)
    assert [int(axis.max()) for axis in ids[0]] == [7, 11, 11]


def test_consecutive_frames_share_a_bin(backbone: Backbone, video: Tensor) -> None:
    pairs = SPEC.pairs(torch.arange(8 * 16.0).view(1, 128, 1).expand(1, 128, 128))
    assert pairs[0, :, [0, 128]].unflatten(0, (4, 16))[1, 3].tolist() == [2 * 16 + 3, 3 * 16 + 3]


@pytest.mark.parametrize(
    "swin", [Frozen(), Unfreeze(layers=1), LoRA(rank=2), FullFineTune()], ids=lambda a: type(a).__name__
)
@pytest.mark.parametrize("video_part", [Frozen(), LoRA(rank=4), FullFineTune()], ids=lambda a: type(a).__name__)
def test_each_part_trains_as_its_own_adaptation_says(backbone: Backbone, swin, video_part) -> None:  # type: ignore[no-untyped-def]
    adaptation = InParts(frames=swin, blocks=video_part)
    for _ in range(2):
        groups = adaptation.apply(backbone)
    listed = [id(p) for g in groups for p in g.parameters]
    trained = {id(p): n for n, p in backbone.named_parameters() if p.requires_grad and ".fresh." not in n}
    fresh = {id(p) for p in backbone.fresh}
    assert set(listed) - fresh == set(trained) - fresh
    assert len(listed) == len(set(listed))
    observed: dict[str, int] = {}
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad and id(parameter) not in fresh:
            part = adaptation.target_of(backbone.place(name))
            observed[part] = observed.get(part, 0) + parameter.numel()
    assert observed == adaptation.declared(backbone)


def test_attention_of_the_blocks_can_be_read(backbone: Backbone, video: Tensor) -> None:
    with torch.no_grad(), tapped(backbone, layers=(-1,)) as seen:
        backbone(video)
    assert seen[-1].query.shape[2] == 4 * 16


def test_another_backbone_has_no_parts() -> None:
    with pytest.raises(CalotError, match="InParts adapts a backbone of two networks"):
        InParts().apply(VJEPA2().at_tiny_scale().build())
