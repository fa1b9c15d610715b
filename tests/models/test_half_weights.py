"""Under autocast a frozen weight is cast once; what is computed, and what trains, stays the same to the bit."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from calot.models.adaptation import Frozen, FullFineTune, LoRA
from calot.models.backbones.protocol import Backbone
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.half_weights import cast_frozen_once

SPEC = VJEPA2(weights=None, layers=2).at_tiny_scale()
CASTS = "calot_half_casts"


def _built() -> Backbone:
    torch.manual_seed(0)
    return SPEC.build()


def _step(backbone: Backbone, *, dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, dict[str, Tensor]]:
    """Tokens, and the gradient of each parameter that has one, from the same draws."""
    torch.manual_seed(1)
    video = torch.rand(2, SPEC.frames, 3, SPEC.size, SPEC.size)
    backbone.zero_grad()
    with torch.autocast("cpu", dtype):
        tokens = backbone(video).values
    if tokens.requires_grad:
        tokens.float().square().mean().backward()
    return tokens.detach(), {n: p.grad.clone() for n, p in backbone.named_parameters() if p.grad is not None}


def _holding(backbone: nn.Module) -> list[str]:
    return [name for name, module in backbone.named_modules() if CASTS in vars(module)]


def test_a_step_with_casts_kept_is_the_same_step() -> None:
    for adaptation in (Frozen(), LoRA(rank=4), LoRA(rank=4, layers=(1,)), FullFineTune(lr=1e-4)):
        plain = _built()
        kept = copy.deepcopy(plain)
        cast_frozen_once(kept)
        for backbone in (plain, kept):
            torch.manual_seed(2)
            adaptation.apply(backbone)
        for dtype in (torch.bfloat16, torch.float16, torch.bfloat16):
            (tokens, gradients), (ours, our_gradients) = _step(plain, dtype=dtype), _step(kept, dtype=dtype)
            assert torch.equal(tokens, ours)
            assert gradients.keys() == our_gradients.keys()
            assert all(torch.equal(gradients[name], our_gradients[name]) for name in gradients)
        assert bool(_holding(kept)) == (not isinstance(adaptation, FullFineTune))


def test_a_weight_that_changed_or_trains_is_cast_again() -> None:
    backbone = _built()
    cast_frozen_once(backbone)
    Frozen().apply(backbone)
    before, _ = _step(backbone)
    linear = backbone.linear(0, "fc1")
    held = vars(linear)[CASTS]
    assert torch.equal(_step(backbone)[0], before)
    assert vars(linear)[CASTS] is held, "kept between passes"
    with torch.no_grad():
        linear.weight.mul_(2)
    changed, _ = _step(backbone)
    assert not torch.equal(changed, before)
    linear.weight.data = linear.weight.data / 2
    assert torch.equal(_step(backbone)[0], before)
    FullFineTune(lr=1e-4).apply(backbone)
    _step(backbone)
    assert not _holding(backbone), "what trains is autocast's own"


def test_without_autocast_nothing_is_kept_and_the_checkpoint_has_the_same_names() -> None:
    backbone = _built()
    names = backbone.state_dict().keys()
    cast_frozen_once(backbone)
    Frozen().apply(backbone)
    _step(backbone)
    assert backbone.state_dict().keys() == names
    assert {t.dtype for t in backbone.state_dict().values()} == {torch.float32}
    backbone(torch.rand(1, SPEC.frames, 3, SPEC.size, SPEC.size))
    assert not _holding(backbone)
