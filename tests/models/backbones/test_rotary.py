"""Rotary tables give transformers' own numbers, to the bit, in every precision and with gradients."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention

from calot.models.backbones import rotary
from calot.models.backbones.protocol import Backbone
from calot.models.backbones.vjepa2 import VJEPA2

SPECS = {
    "tiny": VJEPA2(weights=None).at_tiny_scale(),
    "longer than high": replace(VJEPA2(weights=None).at_tiny_scale(), frames=14, size=32, layers=2),
    "no dimension left over": replace(VJEPA2(weights=None).at_tiny_scale(), size=32, width=96, heads=2, layers=2),
}


def _pair(spec: VJEPA2) -> tuple[Backbone, Backbone]:
    """The network as transformers runs it, and the same with tables."""
    torch.manual_seed(0)
    with patch.object(rotary, "with_tables", lambda network: None):
        plain = spec.build().eval()
    tabled = copy.deepcopy(plain)
    rotary.with_tables(tabled)
    return plain, tabled


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("autocast", [False, True])
def test_tables_equal_transformers_own_rotation(spec: VJEPA2, dtype: torch.dtype, autocast: bool) -> None:
    plain, tabled = (x.to(dtype) for x in _pair(spec))
    video = torch.rand(2, spec.frames, 3, spec.size, spec.size, dtype=dtype)
    for network in (plain, tabled):
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            tokens = network(video).values
        tokens.square().mean().backward()
    with torch.no_grad():
        assert torch.equal(plain(video).values, tabled(video).values)
    gradients = {name: p.grad for name, p in plain.named_parameters()}
    for name, parameter in tabled.named_parameters():
        theirs = gradients[name]
        assert theirs is not None
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, theirs), name


def test_a_built_backbone_has_tables_in_every_layer_and_computes_them_once() -> None:
    spec = SPECS["tiny"]
    backbone = spec.build()
    asked: list[int] = []
    own = VJEPA2RopeAttention.apply_rotary_embeddings

    def counted(self: VJEPA2RopeAttention, qk: torch.Tensor, pos_ids: object) -> torch.Tensor:
        asked.append(1)
        return own(self, qk, pos_ids)  # type: ignore[no-any-return]

    with patch.object(VJEPA2RopeAttention, "apply_rotary_embeddings", counted), torch.no_grad():
        for _ in range(3):
            backbone(torch.rand(1, spec.frames, 3, spec.size, spec.size))
    assert len(asked) == 2, "two unit vectors, in the first layer of the first pass; 3 x 2 x 4 without tables"


def test_tables_made_while_scoring_serve_a_gradient_afterwards() -> None:
    spec = SPECS["tiny"]
    backbone = spec.build()
    video = torch.rand(1, spec.frames, 3, spec.size, spec.size)
    with torch.inference_mode():
        backbone(video)
    backbone(video).values.mean().backward()
    assert backbone.linear(0, "q").weight.grad is not None


def test_explicit_positions_are_transformers_own() -> None:
    plain, tabled = (x.attention(0) for x in _pair(SPECS["tiny"]))
    hidden, chosen = torch.rand(1, 3, 128), torch.tensor([[5, 0, 200]])
    assert torch.equal(plain(hidden, chosen)[0], tabled(hidden, chosen)[0])
