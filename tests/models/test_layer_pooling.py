"""Pooling of several layers against their outputs run by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from calot.errors import CalotError
from calot.experiment import scaled
from calot.experiments import find
from calot.models.backbones.per_frame import DINOv3PerFrame
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.classifier import Classifier
from calot.models.heads import LinearHead
from calot.models.layer_pooling import LayerPooling
from calot.models.masking import TokenZeroing
from calot.models.pooling import MeanPooling
from calot.types import Batch, Tokens

TINY = VJEPA2(weights=None, size=64, frames=8, patch=8, width=128, layers=4, heads=2)
POOLING = LayerPooling(layers=(0, 2), each=MeanPooling())


def _model(spec: object = TINY) -> Classifier:
    torch.manual_seed(0)
    return Classifier(backbone=spec.build(), pooling=POOLING, heads=(LinearHead(),)).eval()


def _batch() -> Batch:
    draw = torch.Generator().manual_seed(2)
    return Batch.unlabelled(torch.randint(0, 255, (2, 8, 3, 64, 64), dtype=torch.uint8, generator=draw))


def _norm(x: Tensor) -> Tensor:
    return torch.nn.functional.layer_norm(x, x.shape[-1:])


def test_the_vector_is_each_layers_own_mean_normed_and_joined() -> None:
    model, batch = _model(), _batch()
    backbone = model.backbone
    (view,) = backbone.spec.views
    with torch.no_grad():
        first = backbone.layers[0](backbone.embedding(view.normalise(batch.video)), None)[0]
        third = backbone.layers[2](backbone.layers[1](first, None)[0], None)[0]
        want = torch.cat([_norm(first).mean(1), _norm(third).mean(1)], dim=-1)
        assert torch.allclose(model.pooling(model.encode(batch)), want, atol=1e-5)
        assert model(batch).logits.shape == (2, 3)


def test_a_network_with_extra_tokens_gives_levels_of_patches_alone() -> None:
    model = _model(DINOv3PerFrame().at_tiny_scale())
    tokens = model.encode(_batch())
    assert {n: x.shape for n, x in tokens.levels.items()} == dict.fromkeys((0, 2), tokens.values.shape)


def test_zeroed_tokens_are_zero_in_every_layer() -> None:
    tokens = Tokens(values=torch.ones(1, 4, 2), grid=(1, 2, 2), levels={3: torch.ones(1, 4, 2)})
    keep = torch.tensor([[True, False, True, False]])
    assert TokenZeroing().pooled(tokens, keep).levels[3][0, :, 0].tolist() == [1, 0, 1, 0]


def test_layers_get_gradient_from_it_under_checkpointing_too() -> None:
    found = []
    for checkpointed in (False, True):
        model = _model().train()
        if checkpointed:
            model.backbone.checkpoint_gradients()
        model(_batch()).logits.square().mean().backward()
        found.append({n: p.grad for n, p in model.backbone.named_parameters() if p.grad is not None})
    assert any(n.startswith("model.encoder.layer.2.") for n in found[0])
    assert not any(n.startswith("model.encoder.layer.3.") for n in found[0])  # nothing above reads the last layer
    assert found[0].keys() == found[1].keys()
    assert all(torch.allclose(found[0][n], found[1][n], atol=1e-7) for n in found[0])


def test_cached_tokens_without_the_layers_are_refused() -> None:
    model, batch = _model(), _batch()
    model.backbone.requires_grad_(False)
    tokens = model.encode(batch)
    assert torch.equal(model(batch.with_tokens(tokens)).logits, model(batch).logits)
    with pytest.raises(CalotError, match="layer 0's output is pooled"):
        model(batch.with_tokens(replace(tokens, levels=None)))


def test_at_tiny_scale_layers_keep_their_place_in_the_depth() -> None:
    assert scaled(find("multi_layer_pooling").experiment, "tiny").pooling.layers == (1, 2, 3)
    with pytest.raises(ValueError, match="reads layers itself"):
        LayerPooling(each=LayerPooling())
