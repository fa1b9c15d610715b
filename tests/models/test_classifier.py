from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from calot.errors import CalotError
from calot.models.adaptation import Frozen, FullFineTune
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.classifier import Classifier
from calot.models.heads import Head, LinearHead, MLPHead
from calot.models.masking import AttentionBias, Masking, TokenMasking
from calot.models.pooling import AttentivePooling, MeanPooling
from calot.models.segmentation import Segmentation
from calot.types import Batch, Masks

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


def _whole(masking: Masking | None = None, **more: Any) -> Classifier:
    """With a decoder and dropout everywhere, so that any other order of draws would show."""
    torch.manual_seed(0)
    heads = [MLPHead(hidden=16), Segmentation(hidden=32, groups=4), MLPHead(name="early", hidden=8)]
    model = Classifier(backbone=SPEC.build(), pooling=AttentivePooling(), heads=heads, masking=masking, **more)
    Frozen().apply(model.backbone)
    return model.train()


def _clips(count: int = 3) -> Batch:
    draw = torch.Generator().manual_seed(1)
    video = torch.randint(0, 256, (count, 4, 3, 32, 32), dtype=torch.uint8, generator=draw)
    values = torch.randint(0, 5, (count, 1, 16, 16), dtype=torch.uint8, generator=draw)
    one = torch.ones(count, 1)
    masks = Masks(values=values, weight=one, place=torch.full((count, 1), 2), complete=one[:, 0] > 0)
    return Batch.unlabelled(video, masks=masks)


def _scores_and_gradients(model: Classifier, batch: Batch) -> dict[str, Tensor]:
    """Every head's scores and every gradient of their squares, on dropout of one seed."""
    torch.manual_seed(7)
    model.zero_grad(set_to_none=True)
    outputs = model(batch)
    torch.stack([s.square().sum() for s in outputs.scores.values()]).sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) > 20
    return {**outputs.scores, **gradients}


def test_a_call_is_encoding_and_then_classifying() -> None:
    model, batch = _whole(TokenMasking()), _clips()
    torch.manual_seed(7)
    once = model(batch)
    torch.manual_seed(7)
    twice = model.classify(model.encode(batch), masks=batch.masks)
    assert once.scores.keys() == twice.scores.keys() == {"head", "segmentation", "early"}
    assert all(torch.equal(once.scores[n], twice.scores[n]) for n in once.scores)
    assert torch.equal(once.kept, twice.kept)


@pytest.mark.parametrize("masking", [None, TokenMasking(), AttentionBias()], ids=lambda m: type(m).__name__)
def test_tokens_in_place_of_video_give_the_same_scores_and_gradients_bit_for_bit(masking: Masking | None) -> None:
    model, batch = _whole(masking, observed_layers=(0,)), _clips()
    cached = batch.with_tokens(model.encode(batch))
    assert (cached.video.numel(), len(cached)) == (0, 3)
    video, tokens = (_scores_and_gradients(model, b) for b in (batch, cached))
    assert video.keys() == tokens.keys()
    assert all(torch.equal(video[n], tokens[n]) for n in video)


def test_tokens_are_refused_where_something_happens_inside_the_encoder_that_they_missed() -> None:
    plain, batch = _whole(), _clips()
    cached = batch.with_tokens(plain.encode(batch))
    with pytest.raises(CalotError, match=r"masking acts inside the encoder: give it the clips' frames"):
        _whole(AttentionBias())(cached)
    with pytest.raises(CalotError, match="layer -1's attention is read"):
        _whole(observed_layers=(-1,))(cached)
    FullFineTune().apply(plain.backbone)
    with pytest.raises(CalotError, match="the backbone trains"):
        plain(cached)


def test_a_batchs_tokens_and_views_go_wherever_its_clips_go() -> None:
    model, batch = _whole(TokenMasking(), observed_layers=(0,)), _clips(5)
    tokens = replace(model.encode(batch), keep=torch.rand(5, 32) < 0.5)
    whole = replace(batch.with_tokens(tokens), views={"detail": torch.arange(5.0)[:, None]})
    assert [len(p) for p in whole.split(2)] == [2, 2, 1]
    chosen, part = whole.of(torch.tensor([2, 3])), whole.split(2)[1]
    for found in (chosen, part):
        assert found.tokens is not None
        assert torch.equal(found.tokens.values, tokens.values[2:4])
        assert torch.equal(found.tokens.keep, tokens.keep[2:4])
        assert torch.equal(found.tokens.attention[0].query, tokens.attention[0].query[2:4])
        assert found.tokens.grid == tokens.grid
        assert found.views["detail"].flatten().tolist() == [2.0, 3.0]


def test_another_head_moves_nothing_that_the_criterias_head_draws() -> None:
    """Its dropout and its first weights are the same with and without heads beside it that draw none."""

    def logits(*more: Head) -> Tensor:
        torch.manual_seed(0)
        model = Classifier(backbone=SPEC.build(), pooling=AttentivePooling(), heads=[MLPHead(hidden=16), *more]).train()
        Frozen().apply(model.backbone)
        torch.manual_seed(7)
        return model(_clips()).logits

    assert torch.equal(logits(), logits(LinearHead(name="early")))


@pytest.mark.parametrize("name", ["backbone", "pooling", "train", "encode", "heads"])
def test_a_head_takes_no_name_that_the_classifier_needs(name: str) -> None:
    with pytest.raises(ValueError, match=f"cannot be called '{name}'"):
        Classifier(backbone=SPEC.build(), pooling=MeanPooling(), heads=[LinearHead(), LinearHead(name=name)])
    with pytest.raises(ValueError, match="two of one name"):
        Classifier(backbone=SPEC.build(), pooling=MeanPooling(), heads=[LinearHead(), LinearHead()])
