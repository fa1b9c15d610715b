import torch

from calot.models.adaptation import Frozen, FullFineTune
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.classifier import Classifier
from calot.models.heads import LinearHead, MLPHead
from calot.models.pooling import AttentivePooling
from calot.types import Batch

SPEC = VJEPA2(weights=None, size=32, frames=4, patch=8, width=64, layers=2, heads=1)


def _classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(backbone=SPEC.build(), pooling=AttentivePooling(), heads=[MLPHead(hidden=16)])


def test_a_frozen_backbone_gets_no_gradient_and_stays_in_evaluation_mode() -> None:
    model = _classifier()
    assert Frozen().apply(model.backbone) == ()
    model.train()
    assert not model.backbone.training
    assert model.head.training
    out = model(Batch.unlabelled(torch.randn(2, 4, 3, 32, 32)))
    assert not out.tokens.values.requires_grad
    out.logits.sum().backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    assert all(p.grad is not None for p in model.head.parameters())


def test_full_fine_tuning_trains_every_encoder_tensor_at_its_own_rate() -> None:
    model = _classifier()
    (group,) = FullFineTune(lr=3e-5).apply(model.backbone)
    assert (group.name, group.lr) == ("backbone", 3e-5)
    model.train()
    model(Batch.unlabelled(torch.randn(2, 4, 3, 32, 32))).logits.square().sum().backward()
    missing = [n for n, p in model.backbone.named_parameters() if p.grad is None]
    assert missing == []
    assert len(group.parameters) == len(list(model.backbone.parameters()))


def test_heads_have_the_documented_count_and_start_with_zero_biases() -> None:
    with torch.device("meta"):
        counts = [sum(p.numel() for p in h.build(width=1024).parameters()) for h in (MLPHead(), LinearHead())]
    assert counts == [528_387, 2 * 1024 + 3 * 1024 + 3]
    head = MLPHead().build(width=64)
    assert all(layer.bias.abs().max() == 0 for layer in head if isinstance(layer, torch.nn.Linear))


def test_counts_add_up_by_group() -> None:
    model = _classifier()
    Frozen().apply(model.backbone)
    counts = model.parameter_counts()
    groups = counts["groups"]
    assert counts["total"] == sum(groups.values())
    assert counts["trainable"] == groups["pooling"] + groups["head"]
