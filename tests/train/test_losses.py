import math

import pytest
import torch
from torch.nn import functional as F

from calot.criteria import PerCriterion
from calot.train.classification import ClassificationObjective
from calot.train.losses import BCE, FocalLoss, Loss, focal_bce
from calot.train.objective import shares, total_units
from calot.types import Batch, Outputs, Tokens


def _batch(count: int, *, seed: int = 0) -> tuple[Outputs, Batch]:
    torch.manual_seed(seed)
    labels = (torch.rand(count, 3) > 0.6).float()
    batch = Batch(video=torch.zeros(count, 1, 3, 1, 1), labels=labels, soft=labels, index=torch.arange(count))
    logits = torch.randn(count, 3, requires_grad=True)
    return Outputs(scores={"head": logits}, tokens=Tokens(values=torch.zeros(count, 1, 1), grid=(1, 1, 1))), batch


def test_focal_with_gamma_zero_is_bce() -> None:
    out, batch = _batch(8)
    plain = F.binary_cross_entropy_with_logits(out.logits, batch.labels)
    assert torch.allclose(FocalLoss(alpha=None, gamma=0.0)(out, batch), plain, atol=1e-7)


def test_focal_has_the_papers_value_at_one_half() -> None:
    """p = 0.5: -alpha (1 - 0.5)^2 log 0.5 for a positive, (1 - alpha) in its place for a negative."""
    logits, labels = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    values = focal_bce(logits, labels, gamma=2.0, alpha=torch.tensor(0.25))
    assert values.tolist()[0] == pytest.approx([0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2)])


def test_focal_alpha_may_differ_by_criterion() -> None:
    out, batch = _batch(6)
    by_name = FocalLoss(alpha=PerCriterion.of([0.25, 0.5, 0.75]))(out, batch)
    parts = [
        focal_bce(out.logits[:, k : k + 1], batch.labels[:, k : k + 1], gamma=2.0, alpha=torch.tensor(a))
        for k, a in enumerate((0.25, 0.5, 0.75))
    ]
    assert torch.allclose(by_name, torch.cat(parts, dim=1).mean())


def test_focal_stays_finite_for_huge_logits() -> None:
    logits = torch.tensor([[1e4, -1e4, 1e4]], requires_grad=True)
    focal_bce(logits, torch.tensor([[0.0, 1.0, 1.0]]), gamma=2.0).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_pos_weight_multiplies_the_positive_term_of_its_criterion_alone() -> None:
    out, batch = _batch(16)
    plain = F.binary_cross_entropy_with_logits(out.logits, batch.labels, reduction="none")
    expected = plain * torch.where(batch.labels == 1, torch.tensor([1.0, 5.0, 1.0]), 1.0)
    loss = BCE(pos_weight=PerCriterion(hepatocystic_triangle=5.0))
    assert torch.allclose(loss(out, batch), expected.mean())
    assert loss(out, batch) > BCE()(out, batch)


@pytest.mark.parametrize("loss", [BCE(pos_weight=PerCriterion.of([1, 5, 1])), FocalLoss()], ids=["bce", "focal"])
@pytest.mark.parametrize("size", [1, 3, 16])
def test_how_a_batch_is_cut_does_not_change_its_loss(loss: Loss, size: int) -> None:
    out, batch = _batch(16)
    whole = loss(out, batch)
    parts = batch.split(size)
    objective = ClassificationObjective(loss)
    units = total_units(objective, parts, epoch=0)
    outputs = [Outputs(scores={"head": out.logits[p.index]}, tokens=out.tokens) for p in parts]
    values = [objective.values(o, p, epoch=0) for o, p in zip(outputs, parts, strict=True)]
    pieces = [share for v in values for share in shares(v, units=units).values()]
    assert torch.allclose(torch.stack(pieces).sum(), whole, atol=1e-6)


def test_a_misspelt_field_is_an_error() -> None:
    with pytest.raises(TypeError, match="focal_gamma"):
        FocalLoss(focal_gamma=1.0)
