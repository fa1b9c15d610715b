"""Weights of another kind, or mangled, are named for what they are: never read in silence, never a bug in calot."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_vjepa2 import TINY, _official

from calot.errors import CalotError
from calot.models.backbones.protocol import Backbone


def _backbone() -> Backbone:
    torch.manual_seed(0)
    return TINY.build().eval()


def _with_table(entries: int) -> dict[str, torch.Tensor]:
    return _official(_backbone()) | {"module.backbone.pos_embed": torch.zeros(1, entries, 64)}


@pytest.mark.parametrize("entries", [1568, 4608])
def test_a_v_jepa_1_file_is_known_by_the_length_of_its_table(tmp_path: Path, entries: int) -> None:
    torch.save({"encoder": _with_table(entries)}, tmp_path / "vitl16.pt")
    with pytest.raises(CalotError, match=r"vitl16\.pt: a V-JEPA 1 checkpoint"):
        replace(TINY, weights=str(tmp_path / "vitl16.pt")).build()


@pytest.mark.parametrize("entries", [2048, 8192, 18432])
def test_a_v_jepa_2_file_may_carry_a_table(tmp_path: Path, entries: int) -> None:
    torch.save({"encoder": _with_table(entries)}, tmp_path / "vitl.pt")
    loaded = replace(TINY, weights=str(tmp_path / "vitl.pt")).build().eval()
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), _backbone().parameters(), strict=True))


def test_a_v_jepa_2_1_file_is_named_as_such(tmp_path: Path) -> None:
    torch.save({"ema_encoder": _official(_backbone())}, tmp_path / "vitl.pt")
    with pytest.raises(CalotError, match=r"a V-JEPA 2\.1 checkpoint"):
        replace(TINY, weights=str(tmp_path / "vitl.pt")).build()


@pytest.mark.parametrize("key", ["encoder", "target_encoder", "backbone", None])
@pytest.mark.parametrize("kind", ["file", "folder", "safetensors"])
def test_the_official_layout_is_read_from_files_and_folders(tmp_path: Path, key: str | None, kind: str) -> None:
    state = _official(_backbone())
    if kind == "safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text("{}")
    else:
        torch.save(state if key is None else {key: state}, tmp_path / "latest.pt")
    place = tmp_path / "latest.pt" if kind == "file" else tmp_path
    loaded = replace(TINY, weights=str(place)).build()
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), _backbone().parameters(), strict=True))


def _mangled(name: str, raw: bytes) -> bytes:
    length = int.from_bytes(raw[:8], "little")
    header, body = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    first, second = [k for k in header if k != "__metadata__"][:2]

    def whole() -> bytes:
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + body

    if name == "header of 2^63":
        return (2**63).to_bytes(8, "little") + raw[8:]
    if name == "not JSON":
        return raw[:8] + b"x" * length + body
    if name == "deep JSON":
        text = b"[" * 100_000
        return len(text).to_bytes(8, "little") + text + body
    if name == "list":
        return (2).to_bytes(8, "little") + b"[]" + body
    if name == "beyond the end":
        header[first]["data_offsets"] = [10**12, 10**12 + 4]
    if name == "overlapping":
        header[second]["data_offsets"] = header[first]["data_offsets"]
    if name == "wrong type":
        header[first]["dtype"] = "F99"
    if name == "smaller type":
        header[first]["dtype"] = "I8"
    if name == "negative":
        header[first]["shape"] = [-1]
    if name == "offsets of text":
        header[first]["data_offsets"] = ["0", "4"]
    if name == "truncated":
        return raw[:-100]
    return whole() if name != "short" else raw[:5]


MANGLED = ["header of 2^63", "not JSON", "deep JSON", "list", "beyond the end", "overlapping", "wrong type"]
MANGLED += ["smaller type", "negative", "offsets of text", "truncated", "short"]


@pytest.mark.parametrize("name", MANGLED)
def test_mangled_safetensors_are_named(tmp_path: Path, name: str) -> None:
    _backbone().model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(_mangled(name, path.read_bytes()))
    with pytest.raises(CalotError, match=r"model\.safetensors: not a whole safetensors file .*download it again"):
        replace(TINY, weights=str(tmp_path)).build()


@pytest.mark.parametrize(
    "change", [{"hidden_size": "big"}, {"num_hidden_layers": None}, {"model_type": "bert"}, {"hidden_act": "nosuch"}]
)
def test_a_mangled_configuration_names_its_folder(tmp_path: Path, change: dict[str, object]) -> None:
    _backbone().model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CalotError, match="download"):
        replace(TINY, weights=str(tmp_path)).build()
