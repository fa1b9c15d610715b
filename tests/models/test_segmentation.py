import pytest
import torch
from torch import nn

from calot.criteria import MASK_CLASSES
from calot.evaluation.masks import MaskConfusion
from calot.models.masking import predicted_classes
from calot.models.segmentation import Segmentation, SegmentationDecoder
from calot.train.losses import SegmentationLoss
from calot.types import IGNORED, Batch, Masks, Outputs, Tokens

GRID = (4, 3, 3)


def _tokens(clips: int, *, seed: int = 0) -> Tokens:
    g = torch.Generator().manual_seed(seed)
    return Tokens(values=torch.randn(clips, 36, 16, generator=g), grid=GRID)


def _decoder(*, groups: int | None = 4, dropout: float = 0.0) -> SegmentationDecoder:
    torch.manual_seed(0)
    return Segmentation(hidden=32, groups=groups, dropout=dropout).build(width=16)


def _scored(scores: torch.Tensor, values: torch.Tensor, weight: torch.Tensor | None = None) -> tuple[Outputs, Batch]:
    clips = len(scores)
    weight = torch.ones(values.shape[:2]) if weight is None else weight
    first = torch.zeros(values.shape[:2], dtype=torch.int64)
    masks = Masks(values=values, weight=weight, place=first, complete=(weight > 0).all(dim=1))
    outputs = Outputs(scores={"segmentation": scores}, tokens=_tokens(clips))
    labels = torch.zeros(clips, 3)
    video = torch.zeros(clips, 1, 3, 4, 4)
    return outputs, Batch(video=video, labels=labels, soft=labels, index=torch.arange(clips), masks=masks)


@pytest.mark.parametrize("groups", [8, None], ids=["GroupNorm", "BatchNorm"])
def test_the_full_size_decoder_has_the_documented_count_and_gives_64_x_64(groups: int | None) -> None:
    with torch.device("meta"):
        decoder = Segmentation(groups=groups).build(width=1024)
        tokens = Tokens(values=torch.empty(2, 2048, 1024), grid=(8, 16, 16))
        scores = decoder(tokens, bins=torch.zeros(2, 1, dtype=torch.int64))
    assert sum(p.numel() for p in decoder.parameters()) == 920_709
    assert scores.shape == (2, 1, len(MASK_CLASSES), 64, 64)


def test_each_layer_asked_for_is_read_from_its_own_temporal_bin_and_no_other() -> None:
    decoder, tokens = _decoder().eval(), _tokens(2)
    bins = torch.tensor([[0, 3], [2, 2]])
    before = decoder(tokens, bins=bins)
    assert torch.equal(before[1, 0], before[1, 1])
    assert not torch.allclose(before[0, 0], before[0, 1])
    for touched in range(GRID[0]):
        values = tokens.values.clone()
        values[:, touched * 9 : (touched + 1) * 9] += 1.0 + torch.arange(16)
        moved = (decoder(Tokens(values=values, grid=GRID), bins=bins) - before).flatten(2).abs().amax(2) > 1e-4
        assert torch.equal(moved, bins == touched)


def test_a_token_speaks_for_its_own_place_of_the_mask() -> None:
    """Row by row: the token at (2, 0) moves pixels near the bottom left most."""
    decoder, tokens = _decoder().eval(), _tokens(1)
    bins = torch.zeros(1, 1, dtype=torch.int64)
    values = tokens.values.clone()
    values[:, 6] += 5.0 * torch.randn(16, generator=torch.Generator().manual_seed(1))
    moved = (decoder(Tokens(values=values, grid=GRID), bins=bins) - decoder(tokens, bins=bins)).abs().sum(2)[0, 0]
    blocks = moved.unfold(0, 4, 4).unfold(1, 4, 4).sum((2, 3))
    assert blocks.flatten().argmax() == 6


def test_groupnorm_makes_a_clips_mask_its_own_affair_and_batchnorm_does_not() -> None:
    bins = torch.zeros(3, 1, dtype=torch.int64)
    tokens = _tokens(3)
    other = Tokens(values=torch.cat([tokens.values[:1], 3 * _tokens(2, seed=1).values]), grid=GRID)
    apart = {}
    for groups in (4, None):
        decoder = _decoder(groups=groups).train()
        one, two = (decoder(t, bins=bins)[0] for t in (tokens, other))
        apart[groups] = float((one - two).abs().max().detach())
    assert apart[4] < 1e-5
    assert apart[None] > 1e-2


def test_batchnorm_is_refused_for_a_batch_of_one_in_training_alone() -> None:
    decoder, bins = _decoder(groups=None), torch.zeros(1, 1, dtype=torch.int64)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in decoder.modules()) == 2
    with pytest.raises(ValueError, match="BatchNorm"):
        decoder.train()(_tokens(1), bins=bins)
    assert decoder.eval()(_tokens(1), bins=bins).shape == (1, 1, 5, 12, 12)


@pytest.mark.parametrize("fields", [{"hidden": 30}, {"hidden": 40, "groups": 8}])
def test_a_width_that_does_not_divide_is_refused_when_it_is_written(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must divide"):
        Segmentation(**fields)


def test_the_loss_is_the_class_weighted_mean_of_the_pixels_that_are_not_ignored() -> None:
    """Uniform scores cost log 5 a pixel, whatever the weights; a certain wrong pixel of class 1 outweighs background
    50 to 1, and what stands under 255 counts nothing."""
    values = torch.tensor([[[[0, 1], [IGNORED, 0]]]], dtype=torch.uint8)
    scores = torch.zeros(1, 1, 5, 2, 2)
    loss = SegmentationLoss()
    assert loss(*_scored(scores, values)).item() == pytest.approx(torch.log(torch.tensor(5.0)).item())
    scores[0, 0, :, 1, 0] = 1e4 * torch.tensor([1.0, -1.0, 1.0, -1.0, 0.0])  # ignored
    scores[0, 0, 1, 0, 0] = scores[0, 0, 1, 1, 1] = 20.0  # background taken for class 1: 20 nats each
    scores[0, 0, 1, 0, 1] = 20.0  # class 1 found
    outputs, batch = _scored(scores, values)
    assert loss(outputs, batch).item() == pytest.approx(2 * 0.1 * 20 / (5 + 2 * 0.1), rel=1e-5)
    assert loss.units(batch) == pytest.approx(5.2)


def test_ignored_pixels_and_clips_without_a_mask_send_no_gradient() -> None:
    values = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    values[0, 0, 0, 0], values[1] = IGNORED, IGNORED
    weight = torch.tensor([[1.0], [0.0]])
    scores = torch.randn(2, 1, 5, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    SegmentationLoss()(*_scored(scores, values, weight)).backward()
    touched = scores.grad.abs().sum(2)[:, 0] > 0
    assert touched.tolist() == [[[False, True], [True, True]], [[False, False], [False, False]]]


def test_a_batch_without_any_mask_has_no_unit_and_so_no_term() -> None:
    values = torch.full((2, 1, 2, 2), IGNORED, dtype=torch.uint8)
    _, batch = _scored(torch.zeros(2, 1, 5, 2, 2), values, torch.zeros(2, 1))
    assert SegmentationLoss().units(batch) == 0


def _found(true: list[int], predicted: list[int]) -> MaskConfusion:
    values = torch.tensor(true, dtype=torch.uint8).view(1, 1, 1, -1)
    scores = torch.nn.functional.one_hot(torch.tensor(predicted), 5).T.float().view(1, 1, 5, 1, -1)
    assert torch.equal(predicted_classes(scores).flatten(), torch.tensor(predicted, dtype=torch.uint8))
    confusion = MaskConfusion()
    confusion(*_scored(scores, values))
    return confusion


def test_iou_by_class_is_intersection_over_union_and_ignored_pixels_stay_out() -> None:
    confusion = _found([0, 0, 1, 1, 2, IGNORED, IGNORED], [0, 1, 1, 1, 2, 3, 0])
    assert list(confusion.iou().values()) == [0.5, pytest.approx(2 / 3), 1.0, None, None]
    assert confusion.mean_iou() == pytest.approx((0.5 + 2 / 3 + 1) / 3)


def test_a_class_absent_from_all_masks_is_undefined_and_not_zero() -> None:
    iou = _found([0, 0, 1, 2], [0, 0, 1, 1]).iou()
    assert (iou["hepatocystic_triangle"], iou["cystic_artery"], iou["cystic_duct"]) == (0.0, None, None)
    assert _found([0, 0, 1], [0, 3, 1]).iou()["cystic_artery"] is None
    assert MaskConfusion().mean_iou() is None
