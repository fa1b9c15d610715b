"""Two networks at two resolutions against the two run by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from calot.experiment import scaled
from calot.experiments import find
from calot.models.adaptation import Frozen, FullFineTune, LoRA
from calot.models.adaptation_by_part import InParts
from calot.models.backbones.fusion import MultiResolution
from calot.run.build import build_classifier, parameter_counts
from calot.train.stage import Stage
from calot.types import Batch

TINY = MultiResolution().at_tiny_scale()


def _clip() -> Tensor:
    return torch.randn(2, 8, 3, 96, 96, generator=torch.Generator().manual_seed(1))


def _built(spec: MultiResolution = TINY):
    torch.manual_seed(0)
    return spec.build().eval()


@torch.no_grad()
def test_tokens_and_vector_are_those_of_the_two_networks_alone() -> None:
    backbone, clip = _built(), _clip()
    tokens = backbone(clip)
    video, swin = TINY.of_video.build_without_weights().eval(), TINY.inner.build_without_weights().eval()
    video.model.encoder.layer.load_state_dict(backbone.layers.state_dict())
    video.final_norm.load_state_dict(backbone.final_norm.state_dict())
    video.embedding.load_state_dict(backbone.model["front"]["patches"].state_dict())
    swin.model.load_state_dict(backbone.model["front"]["swin"].state_dict())
    small = torch.stack([F.interpolate(c, size=(64, 64), mode="bilinear", antialias=True) for c in clip])
    assert torch.allclose(tokens.values, video(small).values, atol=1e-6)
    assert torch.allclose(tokens.beside, swin(clip[:, -5:]).values.mean(1), atol=1e-6)
    assert tokens.grid == (4, 8, 8)


@torch.no_grad()
def test_heads_read_the_pooled_vector_and_swins_and_swin_sees_the_last_frames_alone() -> None:
    torch.manual_seed(0)
    model = build_classifier(scaled(find("multires_fusion").experiment, "tiny")).eval()
    draw = torch.Generator().manual_seed(2)
    batch = Batch.unlabelled(torch.randint(0, 255, (2, 8, 3, 96, 96), dtype=torch.uint8, generator=draw))
    tokens = model.encode(batch)
    assert model.get_submodule("head")[0].normalized_shape == (256,)
    other = model.classify(replace(tokens, beside=tokens.beside + 1)).logits
    assert not torch.allclose(other, model.classify(tokens).logits)
    video = batch.video.clone()
    video[:, 0] = 0
    assert torch.equal(model.encode(replace(batch, video=video)).beside, tokens.beside)


@pytest.mark.parametrize(
    "adaptation",
    [Frozen(), LoRA(rank=2, alpha=4), FullFineTune(), InParts(frames=FullFineTune(), blocks=LoRA(rank=2, alpha=4)),
     InParts(frames=Frozen(), blocks=FullFineTune())],
)  # fmt: skip
def test_every_adaptation_trains_what_it_declares(adaptation: object) -> None:
    backbone = _built()
    stage = Stage(adaptation=adaptation)
    groups = stage.adapt(backbone)
    trained = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    assert trained == sum(stage.declared(backbone).values()) == sum(p.numel() for g in groups for p in g.parameters)


def test_at_full_size_it_has_both_networks() -> None:
    counts = parameter_counts(find("multires_fusion").experiment)
    assert 385e6 < counts["groups"]["backbone"] < 395e6  # ViT-L 304 M, SwinV2-B 87 M


def test_more_frames_for_swin_than_a_clip_has_are_refused() -> None:
    with pytest.raises(ValueError, match="swin_frames=17"):
        MultiResolution(swin_frames=17)
