"""A file of another encoder is refused by what it is; a positions' table is never dropped in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_vjepa2 import TINY, _official
from test_vjepa21 import SPEC, official

from calot.errors import CalotError
from calot.models.backbones.jepa import JEPAEncoder
from calot.models.backbones.official import FIRST, SECOND, SECOND_1, recognised

WIDTH = 64


def _second() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {k: v for k, v in _official(TINY.build()).items() if "pos_embed" not in k}


def _transformer(*, prefix: str = "", patches: tuple[int, ...] = (8, 8)) -> dict[str, torch.Tensor]:
    """Two layers of a plain vision transformer under timm's names."""
    made = {f"{prefix}patch_embed.proj.weight": torch.zeros(WIDTH, 3, *patches)}
    for i in range(2):
        made[f"{prefix}blocks.{i}.attn.qkv.weight"] = torch.zeros(3 * WIDTH, WIDTH)
        made[f"{prefix}blocks.{i}.attn.proj.weight"] = torch.zeros(WIDTH, WIDTH)
        made[f"{prefix}blocks.{i}.mlp.fc1.weight"] = torch.zeros(4 * WIDTH, WIDTH)
    return made


_PREDICTOR = {
    "module.backbone.predictor_embed.weight": torch.zeros(24, WIDTH),
    "module.backbone.mask_tokens.0": torch.zeros(1, 1, 24),
    "module.backbone.predictor_blocks.0.attn.qkv.weight": torch.zeros(72, 24),
    "module.backbone.predictor_norm.weight": torch.zeros(24),
}
_MAE = _transformer(prefix="encoder.", patches=(2, 8, 8)) | {
    "encoder.blocks.0.attn.q_bias": torch.zeros(WIDTH),
    "mask_token": torch.zeros(1, 1, WIDTH),
    "decoder.blocks.0.attn.qkv.weight": torch.zeros(96, 32),
}
_DINO = _transformer() | {
    "cls_token": torch.zeros(1, 1, WIDTH),
    "pos_embed": torch.zeros(1, 1569, WIDTH),
    "blocks.0.ls1.gamma": torch.zeros(WIDTH),
}


#: What a file holds, by what it is; a name, and what the message says of it and of the remedy.
FILES: dict[str, tuple[dict[str, object], str]] = {
    "V-JEPA 1": (
        {"encoder": _second() | {"module.backbone.pos_embed": torch.zeros(1, 1568, WIDTH)}},
        r"a V-JEPA 1 checkpoint \(its table of positions has 1,568 entries\), whose encoder adds positions",
    ),
    "V-JEPA 1 at 384": (
        {"target_encoder": _second() | {"module.backbone.pos_embed": torch.zeros(1, 4608, WIDTH)}},
        r"a V-JEPA 1 checkpoint \(its table of positions has 4,608 entries\)",
    ),
    "predictor as encoder": (
        {"encoder": _PREDICTOR},
        r"a V-JEPA predictor checkpoint under 'encoder', which guesses hidden tokens .*Keep the encoder's tensors",
    ),
    "predictor alone": (_PREDICTOR, "a V-JEPA predictor checkpoint, which guesses hidden tokens"),
    "predictor beside": ({"predictor": _PREDICTOR}, r"holds neither 'encoder' nor .*\(it holds predictor\)"),
    "VideoMAE": (_MAE, r"a VideoMAE checkpoint, whose positions are a table .*such as videomae_lora"),
    "VideoMAE as encoder": ({"encoder": _MAE}, "a VideoMAE checkpoint"),
    "DINO": (_DINO, r"a DINO checkpoint, which encodes single images\. .*dinov3_per_frame_lora"),
    "image model": (_transformer(), r"an image transformer's checkpoint, whose patches span no time"),
    "other": ({"state": {"fc.weight": torch.zeros(2)}, "epoch": 3}, r"\(it holds epoch, state\)"),
}


@pytest.mark.parametrize("spec", [TINY, SPEC], ids=["2", "2.1"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_encoder_is_named_with_the_remedy(tmp_path: Path, name: str, spec: JEPAEncoder) -> None:
    held, says = FILES[name]
    torch.save(held, tmp_path / "weights.pt")
    with pytest.raises(CalotError, match=rf"weights\.pt: .*{says}") as raised:
        replace(spec, weights=str(tmp_path / "weights.pt")).build()
    assert "\n" not in str(raised.value)


def test_weights_of_one_v_jepa_are_never_read_into_the_other(tmp_path: Path) -> None:
    torch.save({"encoder": _second()}, tmp_path / "second.pt")
    torch.save({"ema_encoder": official()}, tmp_path / "newer.pt")
    torch.save({"encoder": official()}, tmp_path / "renamed.pt")
    with pytest.raises(CalotError, match=r"second\.pt: a V-JEPA 2 checkpoint.* V-JEPA 2\.1 weights.*e02_frozen_probe"):
        replace(SPEC, weights=str(tmp_path / "second.pt")).build()
    for name in ("newer", "renamed"):
        with pytest.raises(CalotError, match=rf"{name}\.pt: a V-JEPA 2\.1 checkpoint.*Use V-JEPA 2 .*e02_vjepa21"):
            replace(TINY, weights=str(tmp_path / f"{name}.pt")).build()


def test_an_encoder_chosen_under_the_wrong_key_names_the_one_that_the_file_holds_too(tmp_path: Path) -> None:
    torch.save({"encoder": _PREDICTOR, "target_encoder": _second()}, tmp_path / "mixed.pt")
    with pytest.raises(CalotError, match=r"under 'encoder'.*The file holds target_encoder, too"):
        replace(TINY, weights=str(tmp_path / "mixed.pt")).build()


def test_the_key_read_is_the_published_one_and_known(tmp_path: Path) -> None:
    other = {k: v + 1 for k, v in _second().items()}
    torch.save({"target_encoder": other, "encoder": _second()}, tmp_path / "both.pt")
    made = replace(TINY, weights=str(tmp_path / "both.pt")).build()
    assert made.read_from is not None
    assert made.read_from.key == "encoder"
    wanted = _second()["module.backbone.norm.weight"]
    assert torch.equal(made.model.encoder.layernorm.weight, wanted)


def test_safetensors_of_another_encoder_are_refused_alike(tmp_path: Path) -> None:
    save_file({k: v.contiguous() for k, v in _DINO.items()}, tmp_path / "model.safetensors")
    with pytest.raises(CalotError, match="a DINO checkpoint"):
        replace(TINY, weights=str(tmp_path)).build()


def test_a_continued_v_jepa_2_is_read_as_one_from_a_file_and_a_hub_folder(tmp_path: Path) -> None:
    """SurgMotion's layout: key `encoder`, wrapped twice, with optimiser and predictor beside it."""
    state = _second()
    assert all(name.startswith("module.backbone.") for name in state)
    hub = tmp_path / "hub"
    hub.mkdir()
    torch.save({"encoder": state, "predictor": _PREDICTOR, "epoch": 40}, hub / "surgical_vitl.pt")
    (hub / "README.md").write_text("card")
    (hub / "config.json").write_text('{"backbone": "vit_large"}')
    for place in (hub, hub / "surgical_vitl.pt"):
        made = replace(TINY, weights=str(place)).build()
        assert torch.equal(made.model.encoder.layernorm.weight, state["module.backbone.norm.weight"])
        query = made.linear(1, "q").weight
        assert torch.equal(query, state["module.backbone.blocks.1.attn.qkv.weight"][:WIDTH])


def test_a_hub_folder_of_two_files_asks_for_one(tmp_path: Path) -> None:
    for name in ("vitg.pt", "vitl.pt"):
        torch.save({"encoder": _second()}, tmp_path / name)
    with pytest.raises(CalotError, match=r"holds vitg\.pt, vitl\.pt; name one: backbone\.weights=FOLDER/FILE"):
        replace(TINY, weights=str(tmp_path)).build()
    assert replace(TINY, weights=str(tmp_path / "vitl.pt")).build()


def test_kinds_are_told_by_names_and_shapes() -> None:
    plain = {k.removeprefix("module.backbone."): v for k, v in _second().items()}
    assert recognised(plain) is SECOND
    assert recognised(plain | {"pos_embed": torch.zeros(1, 2048, WIDTH)}) is SECOND
    assert recognised(plain | {"pos_embed": torch.zeros(1, 1568, WIDTH)}) is FIRST
    assert recognised(plain | {"video_mod_embed": torch.zeros(1, 1, WIDTH)}) is SECOND_1
    assert recognised({"norm.weight": torch.zeros(3)}) is None
