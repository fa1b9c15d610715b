"""Effects of blocks on a network whose logits are sums of pixels, and on every family's real one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from planted_model import seeing
from torch import Tensor

from calot.analysis.occlusion import Occluder, Occlusion, block_sums, require_captum
from calot.config.holding import component_classes
from calot.errors import CalotError
from calot.models.backbones.protocol import BackboneSpec
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.classifier import Classifier
from calot.models.heads import LinearHead
from calot.models.pooling import AttentivePooling, LSTMPooling, MeanPooling
from calot.statistics.occlusion import GRADIENTS, OCCLUSION, curve_area
from calot.types import Batch

pytest.importorskip("captum")

BLOCKS = Occlusion(across=4, in_time=2, by="black", gradient_steps=4, curve_steps=4, random_orders=3)
FAMILIES = [
    c
    for c in component_classes(BackboneSpec)
    if c.__module__.startswith("calot.models.backbones.") and not c.__abstractmethods__
]


def _clip(*, frames: int = 4, side: int = 32, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch.unlabelled(torch.randint(20, 236, (1, frames, 3, side, side), dtype=torch.uint8, generator=generator))


def _occluder(model: Classifier, settings: Occlusion = BLOCKS) -> Occluder:
    return Occluder(model=model, accelerator=Accelerator(cpu=True), settings=settings)


def _by_hand(model: Classifier, clip: Tensor, covered: Tensor) -> np.ndarray:
    """What each block of 2 frames x 8 pixels adds to the mean token of each colour."""
    gains: Tensor = model.backbone.model.gains
    per_token = (clip - covered).reshape(4, 3, 4, 8, 4, 8).mean(dim=(3, 5)) * gains[:, None] / gains.numel()
    return per_token.reshape(2, 2, 3, 4, 4).sum(dim=1).transpose(0, 1).numpy()


@pytest.mark.parametrize("by", ["black", "blur"])
def test_effects_of_a_linear_network_are_its_weights_times_what_was_covered(by: Any) -> None:
    model = seeing(torch.linspace(-1, 2, 64).reshape(4, 4, 4))
    occluder = _occluder(model, replace(BLOCKS, by=by))
    clip = occluder.normalised(_clip())[0]
    maps, unexplained = occluder.maps(clip)
    expected = _by_hand(model, clip, occluder.covered(clip))
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(maps[OCCLUSION], expected, atol=1e-5)
    np.testing.assert_allclose(maps[GRADIENTS], expected, atol=1e-5)
    assert unexplained.max() < 1e-4


def test_black_is_black_and_blur_keeps_the_mean_but_nothing_small() -> None:
    model = seeing(torch.ones(4, 4, 4))
    occluder = _occluder(model)
    clip = occluder.normalised(_clip())[0]
    (view,) = model.backbone.spec.views
    black = view.normalise(torch.zeros(1, 4, 3, 32, 32, dtype=torch.uint8))[0]
    torch.testing.assert_close(occluder.covered(clip), black)
    blurred = _occluder(model, replace(BLOCKS, by="blur")).covered(clip)
    assert abs(float(blurred.mean() - clip.mean())) < 0.02
    assert float(blurred.std()) < 0.2 * float(clip.std())


def test_one_place_that_is_seen_has_all_the_effect_and_its_curves_beat_random_order() -> None:
    gains = torch.zeros(4, 4, 4)
    gains[:, 1, 2] = 64.0
    occluder = _occluder(seeing(gains))
    found = occluder.effects(occluder.normalised(_clip())[0], seed=0)
    for method in (OCCLUSION, GRADIENTS):
        size = np.abs(found.maps[method])
        assert (size[:, :, 1, 2].sum(axis=1) > 0.999 * size.sum(axis=(1, 2, 3))).all()
        for k in range(3):
            deletion, insertion = found.curves[method][:, k]
            assert deletion[0] == pytest.approx(0.0, abs=1e-5)
            assert deletion[-1] == pytest.approx(insertion[0], abs=1e-5), "both are the covered clip"
            assert insertion[-1] == pytest.approx(0.0, abs=1e-5)
            random = found.curves["random"][:, k]
            assert curve_area(deletion) < curve_area(random[0]) - 0.1
            assert curve_area(insertion) > curve_area(random[1]) + 0.1
    assert found.logits.shape == (3,)


def test_random_orders_are_the_same_for_the_same_seed() -> None:
    occluder = _occluder(seeing(torch.rand(4, 4, 4)))
    clip = occluder.normalised(_clip())[0]
    one, again, other = (occluder.effects(clip, seed=s).curves["random"] for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-6


def test_blocks_that_do_not_divide_a_clip_are_smaller_at_its_end() -> None:
    model = seeing(torch.rand(4, 4, 4))
    occluder = _occluder(model, replace(BLOCKS, across=3, in_time=3, by="black"))
    clip = occluder.normalised(_clip())[0]
    maps, _ = occluder.maps(clip)
    assert maps[OCCLUSION].shape == maps[GRADIENTS].shape == (3, 2, 3, 3)
    with torch.no_grad():
        whole = occluder.logits(torch.stack([clip, occluder.covered(clip)]))
    np.testing.assert_allclose(maps[OCCLUSION].sum(axis=(1, 2, 3)), (whole[0] - whole[1]).numpy(), atol=1e-5)
    ones = block_sums(torch.ones(4, 32, 32), frames=2, side=11)
    assert ones[0].tolist() == [[242, 242, 220], [242, 242, 220], [220, 220, 200]]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "frozen"), [*((c, True) for c in FAMILIES), (VJEPA2, False)])
def test_every_family_has_maps_whose_gradients_add_up(family: type[BackboneSpec], frozen: bool) -> None:
    torch.manual_seed(0)
    spec = replace(family().at_tiny_scale(), weights=None)
    pooling = AttentivePooling(heads=2) if spec.width % 2 == 0 else MeanPooling()
    model = Classifier(backbone=spec.build(), pooling=pooling, heads=[LinearHead()]).eval()
    model.backbone.requires_grad_(not frozen)
    names = [name for name, _ in model.named_parameters()]
    settings = Occlusion(across=2, in_time=1, gradient_steps=10)
    occluder = _occluder(model, settings)
    clip = occluder.normalised(_clip(frames=spec.frames, side=spec.size))[0]
    maps, unexplained = occluder.maps(clip)
    assert maps[OCCLUSION].shape == maps[GRADIENTS].shape == (3, 1, 2, 2)
    assert np.abs(maps[OCCLUSION]).max() > 0
    with torch.no_grad():
        whole = occluder.logits(torch.stack([clip, occluder.covered(clip)]))
    change = (whole[0] - whole[1]).numpy()
    np.testing.assert_allclose(maps[GRADIENTS].sum(axis=(1, 2, 3)), change, atol=0.15 * np.abs(change).max() + 1e-4)
    assert [name for name, _ in model.named_parameters()] == names, "what makes it differentiable is taken away again"
    assert model.backbone_trains == (not frozen)
    assert unexplained.shape == (3,)


def test_a_setting_that_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(CalotError, match=r"Occlusion\.across=1"):
        Occlusion(across=1)
    with pytest.raises(CalotError, match="by='grey'"):
        Occlusion(by="grey")  # type: ignore[arg-type]


def test_logits_that_are_not_finite_end_it() -> None:
    model = seeing(torch.full((4, 4, 4), float("nan")))
    occluder = _occluder(model)
    with pytest.raises(CalotError, match="not finite"):
        occluder.maps(occluder.normalised(_clip())[0])


def test_without_captum_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "captum", None)
    with pytest.raises(CalotError, match=r"pip install 'calot\[explain\]'"):
        require_captum()


@pytest.mark.parametrize("frozen", [True, False])
def test_a_pooling_that_lets_go_of_its_tokens_has_gradients_too_and_lets_go_afterwards(frozen: bool) -> None:
    torch.manual_seed(0)
    spec = replace(VJEPA2().at_tiny_scale(), weights=None, layers=1)
    pooling = LSTMPooling(hidden=8, layers=1, detached=True)
    model = Classifier(backbone=spec.build(), pooling=pooling, heads=[LinearHead()]).eval()
    model.backbone.requires_grad_(not frozen)
    occluder = _occluder(model, Occlusion(across=2, in_time=1, gradient_steps=2))
    maps, _ = occluder.maps(occluder.normalised(_clip(frames=spec.frames, side=spec.size))[0])
    assert np.abs(maps[GRADIENTS]).max() > 0
    assert model.pooling.detached
