"""The predictor beside the encoder: where it comes from, what it never changes, and its size at each scale."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_vjepa2 import TINY, _official

from calot.config.fingerprint import fingerprint
from calot.errors import CalotError, FieldError
from calot.models.backbones.predictor import Predictor
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.backbones.window_vit import WindowViT
from calot.types import Hidden

SMALL = Predictor(layers=1, width=24, heads=2)


def test_an_encoder_with_a_predictor_gives_the_tokens_of_one_without() -> None:
    torch.manual_seed(0)
    plain = TINY.build()
    beside = replace(TINY, predictor=SMALL).build()
    beside.model.encoder.load_state_dict(plain.model.encoder.state_dict())
    clip = torch.rand(2, TINY.frames, 3, TINY.size, TINY.size)
    assert torch.equal(plain(clip).values, beside(clip).values)
    assert {n.removeprefix("model.").split(".")[0] for n, _ in beside.named_parameters()} == {"encoder", "fresh"}
    assert len(beside.fresh) == len(list(beside.model.fresh["predictor"].parameters()))


def test_an_official_file_gives_the_encoder_and_the_predictor_starts_at_random(tmp_path: Path) -> None:
    plain = TINY.build()
    torch.save({"encoder": _official(plain)}, tmp_path / "vitl.pt")
    made = replace(TINY, predictor=SMALL, weights=str(tmp_path / "vitl.pt")).build()
    own, theirs = plain.model.encoder.state_dict(), made.model.encoder.state_dict()
    assert all(torch.equal(own[name], theirs[name]) for name in own)
    count = TINY.grid[0] * TINY.grid[1] * TINY.grid[2]
    hidden = Hidden(torch.arange(count - 3)[None], torch.arange(count - 3, count)[None])
    clip = torch.rand(1, TINY.frames, 3, TINY.size, TINY.size)
    assert made.predict(clip, hidden={"end": hidden}).values["end"].shape == (1, 3, TINY.width)


def test_its_size_follows_the_scale() -> None:
    full = VJEPA2(predictor=Predictor())
    assert full.at_tiny_scale().predictor == Predictor(layers=2, width=48, heads=2)
    assert fingerprint(VJEPA2()) == fingerprint(VJEPA2(predictor=None)) != fingerprint(full)
    with pytest.raises(FieldError, match=r"width=32 must be a multiple of heads=12"):
        Predictor(width=32)


def test_a_family_without_one_says_so() -> None:
    backbone = WindowViT().at_tiny_scale().build()
    clip = torch.rand(1, backbone.spec.frames, 3, backbone.spec.size, backbone.spec.size)
    with pytest.raises(CalotError, match=r"has no predictor: set backbone\.predictor"):
        backbone.predict(clip, hidden={"x": Hidden(torch.zeros(1, 1).long(), torch.zeros(1, 1).long())})
    with pytest.raises(CalotError, match="no weights can be written"):
        TINY.write(TINY.build().model, Path("nowhere"))
