import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import VJEPA2ForVideoClassification

from calot.errors import CalotError
from calot.models.backbones.protocol import Backbone
from calot.models.backbones.vjepa2 import VJEPA2
from calot.models.checkpoints import find_weights

TINY = VJEPA2(weights=None, size=32, frames=4, patch=8, width=64, layers=2, heads=1)


def _clip(spec: VJEPA2, count: int = 2) -> torch.Tensor:
    return torch.randn(count, spec.frames, 3, spec.size, spec.size)


def _official(backbone: Backbone) -> dict[str, torch.Tensor]:
    """The same weights in the official files' layout: fused qkv under `module.backbone.blocks.N.attn`."""
    out: dict[str, torch.Tensor] = {"module.backbone.pos_embed": torch.zeros(1)}
    state = dict(backbone.model.encoder.state_dict())
    for key, tensor in state.items():
        name = key.replace("embeddings.patch_embeddings.", "patch_embed.").replace("layer.", "blocks.")
        name = name.replace("layernorm.", "norm.").replace(".attention.", ".attn.")
        if ".attn.key." in name or ".attn.value." in name:
            continue
        if ".attn.query." in name:
            parts = [state[key.replace("query", part)] for part in ("query", "key", "value")]
            name, tensor = name.replace("query", "qkv"), torch.cat(parts)
        out[f"module.backbone.{name}"] = tensor
    return out


def test_tokens_carry_their_grid() -> None:
    tokens = TINY.build()(_clip(TINY))
    assert tokens.values.shape == (2, 2 * 4 * 4, 64)
    assert tokens.grid == (2, 4, 4)


def test_the_predictor_is_not_kept() -> None:
    names = [name for name, _ in TINY.build().named_parameters()]
    assert names
    assert all(name.startswith("model.encoder.") for name in names)


def test_another_clip_size_is_refused_and_a_backbone_built_for_it_gives_right_positions() -> None:
    backbone = TINY.build()
    with pytest.raises(CalotError, match=r"backbone\.size"):
        backbone(torch.randn(1, 4, 3, 48, 48))
    larger = replace(TINY, size=48)
    ours = larger.build()
    ours.load_state_dict(backbone.state_dict())
    wrong = backbone.model.encoder(clip := _clip(larger)).last_hidden_state
    right = larger.build()
    right.load_state_dict(backbone.state_dict())
    assert torch.equal(ours(clip).values, right(clip).values)
    assert (ours(clip).values - wrong).abs().max() > 1e-4, (
        "positions of another size must differ, or this test is blind"
    )


def test_a_local_folder_at_another_size_equals_a_model_built_for_that_size(tmp_path: Path) -> None:
    backbone = TINY.build()
    backbone.model.config.save_pretrained(tmp_path)
    from safetensors.torch import save_file

    save_file({k: v for k, v in backbone.model.state_dict().items() if v.numel()}, tmp_path / "model.safetensors")
    larger = replace(TINY, size=48, weights=str(tmp_path))
    loaded = larger.build()
    built = replace(TINY, size=48).build()
    built.load_state_dict(backbone.state_dict())
    clip = _clip(larger)
    assert torch.equal(loaded(clip).values, built(clip).values)


def test_weights_saved_with_a_classification_head_load_into_the_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = TINY.build().model.config
    model = VJEPA2ForVideoClassification(config).eval()
    model.save_pretrained(tmp_path)
    clip = _clip(TINY)
    expected = model.vjepa2.encoder(clip).last_hidden_state
    assert torch.equal(replace(TINY, weights=str(tmp_path)).build().eval()(clip).values, expected)


def test_official_pt_files_load_to_the_same_outputs(tmp_path: Path) -> None:
    backbone = TINY.build()
    path = tmp_path / "vitl.pt"
    torch.save({"encoder": _official(backbone), "epoch": 3}, path)
    loaded = replace(TINY, weights=str(path)).build()
    clip = _clip(TINY)
    assert torch.equal(loaded(clip).values, backbone(clip).values)


def test_official_weights_of_another_size_name_the_tensor(tmp_path: Path) -> None:
    path = tmp_path / "vitl.pt"
    torch.save({"encoder": _official(replace(TINY, layers=1).build())}, path)
    with pytest.raises(CalotError, match=r"lacks 1\d encoder tensors, first layer\.1\."):
        replace(TINY, weights=str(path)).build()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 truncated"])
def test_a_corrupt_pt_file_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vitl.pt"
    path.write_bytes(content)
    with pytest.raises(CalotError, match=r"vitl\.pt: not a readable checkpoint"):
        replace(TINY, weights=str(path)).build()


def test_a_pt_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"encoder": Path("x")}, path)
    with pytest.raises(CalotError, match="runs no code"):
        replace(TINY, weights=str(path)).build()


def test_a_folder_of_another_size_says_which_field(tmp_path: Path) -> None:
    other = replace(TINY, layers=1).build()
    other.model.save_pretrained(tmp_path)
    with pytest.raises(CalotError, match="num_hidden_layers 1 where the experiment says 2"):
        replace(TINY, weights=str(tmp_path)).build()


def test_a_hub_out_of_reach_is_one_clear_message_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    start = time.monotonic()
    with pytest.raises(CalotError, match=r"facebook/nothing-here.*--scale tiny"):
        find_weights("facebook/nothing-here")
    assert time.monotonic() - start < 10


def test_a_misspelt_folder_is_not_taken_for_a_hub_id() -> None:
    with pytest.raises(CalotError, match="no such folder"):
        find_weights("./weights/none")


@pytest.mark.parametrize(
    ("field", "value"), [("size", 250), ("frames", 15), ("heads", 7)], ids=["patches", "tubelets", "heads"]
)
def test_sizes_that_do_not_divide_are_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field):
        replace(VJEPA2(), **{field: value})
