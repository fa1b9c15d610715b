"""The small transformer of windows against transformers' Swin V2 layer with the same weights."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import Swinv2Config
from transformers.models.swinv2.modeling_swinv2 import Swinv2SelfAttention

from calot.experiments import find
from calot.models.attention import reading
from calot.models.attention_statistics import normalised_entropy
from calot.models.backbones.window_vit import WindowViT
from calot.run.build import parameter_counts

TINY = WindowViT().at_tiny_scale()


def _built(spec: WindowViT = TINY):
    torch.manual_seed(0)
    return spec.build().eval()


def _theirs(ours: torch.nn.Module) -> Swinv2SelfAttention:
    """Swin V2's own attention for one window, with the weights of ours."""
    config = Swinv2Config(image_size=64, patch_size=8, embed_dim=128, qkv_bias=True)
    theirs = Swinv2SelfAttention(config, dim=128, num_heads=2, window_size=(4, 4)).eval()
    pairs = {"query": ours.q, "key": ours.k, "value": ours.v}
    state = {f"{name}.{k}": v for name, linear in pairs.items() for k, v in linear.state_dict().items()}
    state |= {f"continuous_position_bias_mlp.{k}": v for k, v in ours.bias.state_dict().items()}
    state["logit_scale"] = ours.temperature[:, None, None]
    missing = theirs.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    return theirs


def test_within_a_window_attention_is_swin_v2s() -> None:
    backbone = _built()
    attention = backbone.attention(0)
    with torch.no_grad():
        attention.temperature.copy_(torch.tensor([2.0, 9.0]))  # the second is above the limit
    hidden = torch.randn(2, 256, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), reading(backbone, layer=0) as seen:
        attention(hidden)
    windows = attention.windows.partition.parted(hidden[:, None])[:, 0]
    with torch.no_grad():
        want = _theirs(attention)(windows)[0]
    got = attention.windows.partition.parted(seen.mixed[:, None])[:, 0]
    assert torch.allclose(got, want, atol=1e-5)


def test_tokens_far_apart_meet_through_shifted_windows_alone() -> None:
    """What one patch changes spreads a window and a half in two layers, and to no other temporal bin."""
    backbone = _built(replace(TINY, layers=2))
    clip = torch.randn(1, 8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    changed = clip.clone()
    changed[0, :2, :, 8:16, 8:16] += 1  # bin 0, row 1, column 1
    with torch.no_grad():
        apart = (backbone(clip).values - backbone(changed).values).abs().amax(-1).reshape(4, 8, 8) > 1e-6
    assert not apart[1:].any()
    assert apart[0, :6, :6].all()
    assert not apart[0, 6:].any()
    assert not apart[0, :, 6:].any()


@pytest.mark.parametrize("number", [0, 1])
def test_statistics_know_its_position_bias_and_walls(number: int) -> None:
    backbone = _built()
    with torch.no_grad(), reading(backbone, layer=number) as seen:
        backbone(torch.randn(1, 8, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    assert torch.allclose(seen.rebuilt(), seen.mixed, atol=1e-5)
    entropy: Tensor = normalised_entropy(seen.query_key)
    assert 0 < float(entropy.min()) < float(entropy.max()) <= 1 + 1e-5


def test_at_full_size_it_has_the_planned_size() -> None:
    counts = parameter_counts(find("e13_window_vit").experiment)
    assert 23e6 < counts["total"] < 25e6
    assert counts["trainable"] == counts["total"]


def test_a_window_that_does_not_tile_the_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="does not divide the 16 tokens"):
        WindowViT(window=5)
