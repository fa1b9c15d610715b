"""A clip is held to what its backbone asks for, and normalised by its figures to the last bit that matters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from calot.errors import CalotError
from calot.models.backbones import DEFAULT
from calot.models.backbones.protocol import View

TINY = replace(DEFAULT, weights=None, size=32, frames=4, patch=8, width=64, layers=2, heads=1)


def _stored(*, frames: int = 4, size: int = 32) -> Tensor:
    return torch.randint(0, 256, (2, frames, 3, size, size), dtype=torch.uint8)


def test_normalise_is_the_plain_formula_for_every_value_of_every_channel() -> None:
    view = View(frames=1, size=16, mean=(0.4, 0.5, 0.1), std=(0.2, 0.3, 1.0))
    video = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 16, 16).expand(2, 1, 3, 16, 16)
    mean, std = (torch.tensor(x, dtype=torch.float64).view(-1, 1, 1) for x in (view.mean, view.std))
    assert float((view.normalise(video) - (video.double() / 255 - mean) / std).abs().max()) < 1e-6


def test_normalise_fills_the_buffer_it_is_given() -> None:
    view, video = View(frames=4, size=32), _stored()
    out = torch.full(video.shape, float("nan"))
    assert view.normalise(video, out=out) is out
    assert torch.equal(out, view.normalise(video))
    with pytest.raises(ValueError, match="need float32"):
        view.normalise(video, out=torch.empty(1))


def test_clips_as_stored_are_normalised_by_the_backbones_own_figures() -> None:
    backbone, video = TINY.build().eval(), _stored()
    (view,) = TINY.views
    assert torch.equal(backbone(video).values, backbone(view.normalise(video)).values)
    other = replace(view, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)).normalise(video)
    assert not torch.allclose(backbone(video).values, backbone(other).values, atol=1e-3)


def test_a_backbone_in_float64_takes_clips_as_stored() -> None:
    assert TINY.build().double()(_stored()).values.dtype == torch.float64


@pytest.mark.parametrize("shape", [{"frames": 2}, {"size": 16}])
def test_a_clip_of_another_size_is_refused(shape: dict[str, int]) -> None:
    with pytest.raises(CalotError, match=r"Set backbone\.size and backbone\.frames"):
        TINY.build()(_stored(**shape))


def test_a_parameter_outside_the_layout_is_an_error_and_never_the_embeddings() -> None:
    backbone = TINY.build()
    backbone.model.encoder.add_module("gate", torch.nn.Linear(2, 2))
    with pytest.raises(CalotError, match=r"model\.encoder\.gate\.weight is in no part"):
        backbone.height("model.encoder.gate.weight")


def test_a_role_that_a_family_lacks_names_those_it_has() -> None:
    with pytest.raises(CalotError, match="has no linear 'gate'; it has q, k, v, proj, fc1, fc2"):
        TINY.build().linear(0, "gate")
