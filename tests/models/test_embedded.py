"""The encoder that comes with calot: what it is, how large, and who uses it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import VJEPA2Model

from calot.errors import CalotError
from calot.experiments import resolve
from calot.models.backbones.fusion import MultiResolution
from calot.models.backbones.hybrid import SwinVJEPA
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.backbones.window_vit import WindowViT
from calot.models.checkpoints import EMBEDDED, find_weights, local_weights
from calot.phantom import recipe_named


def test_the_tiny_scale_has_pretrained_weights_and_random_ones_where_asked() -> None:
    assert VJEPA2().at_tiny_scale().weights == EMBEDDED
    assert VJEPA2(weights=None).at_tiny_scale().weights is None
    assert WindowViT().at_tiny_scale().weights is None  # trained from scratch at any scale
    assert resolve("e02_frozen_probe", scale="tiny").experiment.backbone.weights == EMBEDDED
    random = resolve("e02_frozen_probe", overrides=["backbone.weights=None"], scale="tiny").experiment
    assert random.backbone.weights is None


def test_its_tokens_are_those_of_transformers_alone() -> None:
    backbone = VJEPA2().at_tiny_scale().build().eval()
    theirs = VJEPA2Model.from_pretrained(find_weights(EMBEDDED)).eval()
    video = torch.randn(2, 8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(video, skip_predictor=True).last_hidden_state
        assert torch.allclose(backbone(video).values, expected, atol=1e-6)


def test_reading_it_draws_no_bar(capfd: pytest.CaptureFixture[str]) -> None:
    VJEPA2().at_tiny_scale().build()
    said = capfd.readouterr()
    assert said.out + said.err == ""


def test_it_is_small_and_its_card_says_where_it_is_from() -> None:
    folder = find_weights(EMBEDDED)
    assert folder == local_weights(EMBEDDED)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10_000_000
    card = (folder / "README.md").read_text(encoding="utf-8")
    for said in ("phantom", "seed", "calot pretrain", "licence", "no label was read", "not a medical device"):
        assert said in card, said
    assert not [line for line in card.splitlines() if "/tmp" in line or "/work" in line or "/home" in line]


def test_the_command_on_its_card_is_still_that_pretraining() -> None:
    card = (find_weights(EMBEDDED) / "README.md").read_text(encoding="utf-8")
    (line,) = (line for line in card.splitlines() if line.startswith("- command: "))
    words = line.removeprefix("- command: ").strip("`").split()
    changes = [word for word in words if "=" in word]
    assert words[:2] == ["calot", "pretrain"]
    assert "backbone.weights=None" in changes
    since = "train.decayed=all"  # what it was before it could be said; the card says so below its table
    assert f"`{since}`" in card
    again = resolve(words[3], overrides=[*changes, since], scale="tiny").experiment
    assert f"fingerprint {again.fingerprint()}" in card
    spec = recipe_named("phantom-pretraining")
    assert f"seed {spec.seed}, " in card


def test_another_size_is_refused_with_both_remedies() -> None:
    with pytest.raises(CalotError, match=r"num_hidden_layers 4 where the experiment says 6.*backbone\.weights=None"):
        replace(VJEPA2().at_tiny_scale(), layers=6).build()


def test_parts_of_a_hybrid_are_published_only_together() -> None:
    for family in (SwinVJEPA, MultiResolution):
        assert family().published
        tiny = family().at_tiny_scale()
        assert tiny.weights == EMBEDDED
        assert not tiny.published  # SwinV2 is random there: a checkpoint must keep it
    assert VJEPA2().at_tiny_scale().published


def test_a_hybrids_blocks_are_the_last_of_the_embedded_encoder(tmp_path: Path) -> None:
    hybrid, whole = SwinVJEPA().at_tiny_scale().build(), VJEPA2().at_tiny_scale().build()
    count = len(hybrid.layers)
    assert 0 < count < len(whole.layers)
    for own, published in zip(hybrid.layers, list(whole.layers)[-count:], strict=True):
        assert torch.equal(own.mlp.fc1.weight, published.mlp.fc1.weight)
