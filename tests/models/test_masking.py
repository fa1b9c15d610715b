"""Hard masking: which tokens a mask keeps, who reads only those, and whose mask decides."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from calot.models.adaptation import FullFineTune
from calot.models.attention import tapped
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.classifier import Classifier
from calot.models.heads import LinearHead
from calot.models.masking import (
    AttentionBias,
    Masking,
    TokenMasking,
    TokenZeroing,
    anatomy_tokens,
    over_time,
    predicted_classes,
)
from calot.models.pooling import AttentivePooling, MeanPooling, Pooling
from calot.models.segmentation import Segmentation
from calot.types import IGNORED, Batch, Masks, Tokens

SPEC = VJEPA2(weights=None, size=32, frames=4, patch=8, width=64, layers=2, heads=1)  # 2 x 4 x 4 tokens
CLIPS, PLACES = 3, 16
VIDEO = torch.randn(CLIPS, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
LAST = 3  # the labelled frame


def _classifier(masking: Masking | None, *, dropout: float = 0.0, groups: int | None = 4) -> Classifier:
    """A trainable model whose decoder finds anatomy on about half of the places."""
    torch.manual_seed(0)
    model = Classifier(
        backbone=SPEC.build(),
        pooling=AttentivePooling(heads=4, dropout=0.0),
        heads=[LinearHead(), Segmentation(hidden=32, groups=groups, dropout=dropout)],
        masking=masking,
    )
    FullFineTune().apply(model.backbone)
    with torch.no_grad():
        scores = model.eval().segmentation(model.backbone(VIDEO), bins=torch.full((CLIPS, 1), 1))
        margin = scores[:, :, 1:].amax(2) - scores[:, :, 0]
        model.segmentation.upsample[-1].bias[0] += torch.nn.functional.max_pool2d(margin, 4).median()
    return model


def _masks(*, seed: int = 0) -> Masks:
    """Anatomy on a few places of each clip; the last clip has no mask."""
    values = torch.zeros(CLIPS, 1, 16, 16, dtype=torch.uint8)
    values[0, 0, :4, :8], values[1, 0, 9, 9] = 1, 4
    values[2] = IGNORED
    weight = torch.tensor([[1.0], [1.0], [0.0]])
    return Masks(values=values, weight=weight, place=torch.full((CLIPS, 1), LAST), complete=weight[:, 0] > 0)


BARE, MASKED = Batch.unlabelled(VIDEO), Batch.unlabelled(VIDEO, masks=_masks())
TRUE = torch.zeros(2, PLACES, dtype=torch.bool)
TRUE[0, :2], TRUE[1, 10] = True, True  # what `_masks` keeps of the first two clips


def _predicted(model: Classifier) -> Tensor:
    """Places that the decoder itself finds, in evaluation mode."""
    with torch.no_grad():
        tokens = model.eval().backbone(VIDEO)
        places = anatomy_tokens(predicted_classes(model.segmentation(tokens, bins=torch.full((CLIPS, 1), 1))))
    assert 0 < int(places.sum()) < places.numel(), "some places and not all, or these tests are blind"
    return places


def test_a_place_counts_when_any_pixel_of_any_layer_is_anatomy_and_255_is_none() -> None:
    values = torch.zeros(1, 2, 8, 8, dtype=torch.uint8)
    values[0, 0, 0, 3], values[0, 1, 7, 7] = 1, 4  # the last pixel of the first place; the last place, other layer
    values[0, :, 0:4, 4:8] = IGNORED
    assert anatomy_tokens(values).tolist() == [[True, False, False, True]]


def test_by_the_nearest_pixel_a_thin_duct_is_lost_and_nothing_is_widened() -> None:
    values = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    values[0, 0, 0, :] = 4  # a line along the upper edge of the first row of patches
    values[0, 0, 8:16, 8:16] = 1
    assert anatomy_tokens(values).sum() == 4 + 4
    by_nearest = anatomy_tokens(values, by="nearest pixel").view(4, 4)
    assert by_nearest.nonzero().tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]


def test_a_place_is_kept_in_every_temporal_bin_and_a_clip_without_any_keeps_all_its_tokens() -> None:
    places = torch.tensor([[True, False, False], [False, False, False]])
    keep = over_time(places, bins=2)
    assert keep.tolist() == [[True, False, False, True, False, False], [True] * 6]


@pytest.mark.parametrize("pooling", [MeanPooling(), AttentivePooling(heads=4, dropout=0.0)], ids=["mean", "attentive"])
def test_pooling_never_reads_a_dropped_token(pooling: Pooling) -> None:
    torch.manual_seed(0)
    pool = pooling.build(width=64)
    tokens = Tokens(values=torch.randn(2, 32, 64), grid=SPEC.grid)
    keep = torch.rand(2, 32) < 0.4
    before = pool(TokenMasking().pooled(tokens, keep))
    noise = 100 * torch.randn_like(tokens.values)
    touched = replace(tokens, values=torch.where(keep[..., None], tokens.values, noise))
    assert torch.equal(pool(TokenMasking().pooled(touched, keep)), before)
    alone = [pool(Tokens(values=tokens.values[i, keep[i]][None], grid=(1, 1, int(keep[i].sum())))) for i in range(2)]
    torch.testing.assert_close(before, torch.cat(alone))


def test_zeroed_tokens_are_still_attended_to_and_masked_ones_are_not() -> None:
    pool = MeanPooling().build(width=64)
    tokens, keep = Tokens(values=torch.ones(1, 32, 64), grid=SPEC.grid), torch.arange(32)[None] < 8
    assert torch.equal(pool(TokenMasking().pooled(tokens, keep)), torch.ones(1, 64))
    assert torch.equal(pool(TokenZeroing().pooled(tokens, keep)), torch.full((1, 64), 0.25))


KINDS = [TokenMasking(), TokenZeroing(), AttentionBias()]


@pytest.mark.parametrize("masking", KINDS, ids=lambda m: type(m).__name__)
def test_true_masks_decide_in_training_and_the_decoders_own_where_a_clip_has_none(masking: Masking) -> None:
    model = _classifier(masking)
    predicted = _predicted(model)
    kept = model.train()(MASKED).kept
    assert torch.equal(kept, over_time(torch.cat([TRUE, predicted[2:]]), bins=2))


@pytest.mark.parametrize("masking", KINDS, ids=lambda m: type(m).__name__)
def test_outside_training_the_decoders_masks_decide_unless_true_ones_are_asked_for_by_name(masking: Masking) -> None:
    model = _classifier(masking)
    predicted = over_time(_predicted(model), bins=2)
    without, given = model(BARE), model(MASKED)
    assert torch.equal(without.kept, predicted)
    assert torch.equal(given.kept, predicted)
    assert torch.equal(without.logits, given.logits)
    model.true_masks = True
    named = model(MASKED)
    assert torch.equal(named.kept[:2], over_time(TRUE, bins=2))
    assert torch.equal(named.kept[2], predicted[2])
    assert not torch.allclose(named.logits[:2], given.logits[:2], atol=1e-5)


def test_a_mixed_clip_keeps_the_anatomy_of_both_and_needs_both_masks() -> None:
    one = _masks()
    layers = (torch.cat([x, x.flip(0)], dim=1) for x in (one.values, one.weight, one.place))
    both = Masks(*layers, complete=one.complete & one.complete.flip(0))
    model = _classifier(TokenMasking())
    predicted = _predicted(model)
    kept = model.train()(Batch.unlabelled(VIDEO, masks=both)).kept
    assert torch.equal(kept, over_time(torch.stack([predicted[0], TRUE[1], predicted[2]]), bins=2))


@pytest.mark.parametrize("masking", [TokenMasking(), TokenZeroing()], ids=lambda m: type(m).__name__)
def test_the_decoder_sees_every_token(masking: Masking) -> None:
    scores = [_classifier(m).train()(MASKED).scores["segmentation"] for m in (masking, None)]
    assert torch.equal(*scores)


@pytest.mark.parametrize("masking", KINDS, ids=lambda m: type(m).__name__)
def test_the_criteria_send_no_gradient_into_the_decoder_whose_mask_was_used(masking: Masking) -> None:
    model = _classifier(masking).train()
    model(MASKED).logits.square().sum().backward()
    assert all(p.grad is None for p in model.segmentation.parameters())
    assert all(p.grad is not None for p in model.pooling.parameters())


@pytest.mark.parametrize("masking", [TokenMasking(), AttentionBias()], ids=lambda m: type(m).__name__)
def test_finding_a_mask_draws_no_dropout_and_moves_no_statistics(masking: Masking) -> None:
    """The decoder's own mask is found as at inference, also within training; its modules stay as they were."""
    model = _classifier(masking, dropout=0.5, groups=None)
    predicted = _predicted(model)
    statistics = {k: v.clone() for k, v in model.named_buffers() if "running" in k}
    assert len(statistics) == 4
    model.train()
    kept = model(Batch.unlabelled(VIDEO[2:])).kept  # no mask at all, one clip: BatchNorm could not even train on it
    assert torch.equal(kept, over_time(predicted[2:], bins=2))
    assert all(torch.equal(v, statistics[k]) for k, v in model.named_buffers() if "running" in k)
    assert model.segmentation.training
    assert model.backbone.training
    assert all(layer.training for layer in model.backbone.model.encoder.layer)


def test_an_attention_bias_lowers_the_odds_of_every_other_token_by_e_to_its_strength() -> None:
    strength = 2.0
    model = _classifier(AttentionBias(strength=strength, layers=(0,)))
    model.true_masks = True
    with tapped(model, layers=(0, 1)) as seen:
        kept = model(MASKED).kept
    with tapped(model.backbone, layers=(0,)) as plain:
        model.backbone(VIDEO)
    assert torch.equal(seen[0].bias[:, 0, 0], torch.where(kept, 0.0, -strength))
    assert seen[1].bias is None
    mass = []
    for qk in (plain[0], seen[0]):
        scores = qk.scaling * qk.query @ qk.key.mT + (0 if qk.bias is None else qk.bias)
        mass.append((scores.softmax(-1) * ~kept[:, None, None]).sum(-1)[:2])
    odds = [m / (1 - m) for m in mass]
    torch.testing.assert_close(odds[1], odds[0] * torch.exp(torch.tensor(-strength)), rtol=1e-4, atol=1e-6)


def test_a_bias_reaches_the_tokens_and_pooling_still_reads_all_of_them() -> None:
    model = _classifier(AttentionBias(strength=4.0)).train()
    biased, plain = model(MASKED), _classifier(None).train()(MASKED)
    assert (biased.tokens.values - plain.tokens.values).abs().max() > 1e-3
    assert biased.tokens.keep is None
