import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from calot.errors import CalotError
from calot.train import checkpoint


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(3, 3), nn.Linear(3, 2)


def _trained() -> tuple[Small, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = Small()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(3):
        model.head(model.backbone(torch.randn(4, 3))).square().sum().backward()
        optimiser.step()
    return model, optimiser


def _save(folder: Path, model: Small, optimiser: torch.optim.Optimizer | None, epoch: int = 1) -> None:
    tensors = checkpoint.model_tensors(model, published=False)
    checkpoint.save(folder, tensors=tensors, optimiser=optimiser, progress={"epoch": epoch})


def test_weights_and_optimiser_come_back_bit_for_bit(tmp_path: Path) -> None:
    model, optimiser = _trained()
    _save(tmp_path / "last", model, optimiser)
    found = checkpoint.load(tmp_path / "last")
    other, fresh = Small(), None
    checkpoint.load_into(other, found.tensors, where=tmp_path)
    fresh = torch.optim.AdamW(other.parameters(), lr=0.5)
    fresh.load_state_dict(found.optimiser)
    for a, b in ((model, other),):
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    for p, q in zip(optimiser.state.values(), fresh.state.values(), strict=True):
        assert all(torch.equal(p[k], q[k]) for k in p)
    assert fresh.param_groups[0]["lr"] == 0.1


def test_frozen_published_weights_are_not_saved_again() -> None:
    model = Small()
    model.backbone.requires_grad_(False)
    assert set(checkpoint.model_tensors(model, published=True)) == {"head.weight", "head.bias"}
    assert "backbone.weight" in checkpoint.model_tensors(model, published=False)


@pytest.mark.parametrize("file", [checkpoint.MODEL, checkpoint.OPTIMISER, checkpoint.STATE])
def test_a_flipped_byte_is_found_and_the_one_before_is_used(tmp_path: Path, file: str) -> None:
    model, optimiser = _trained()
    _save(tmp_path / "last", model, optimiser, epoch=1)
    _save(tmp_path / "last", model, optimiser, epoch=2)
    data = bytearray((tmp_path / "last" / file).read_bytes())
    data[-2] ^= 1
    (tmp_path / "last" / file).write_bytes(data)
    assert checkpoint.load(tmp_path / "last").progress == {"epoch": 1}


def test_no_whole_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    model, _ = _trained()
    _save(tmp_path / "last", model, None)
    (tmp_path / "last" / checkpoint.MANIFEST).unlink()
    with pytest.raises(CalotError, match=r"no whole checkpoint here \(last: incomplete.*--overwrite"):
        checkpoint.load(tmp_path / "last")


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_kill_between_the_renames_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    model, optimiser = _trained()
    _save(tmp_path / "last", model, optimiser, epoch=1)
    calls, real = [], os.replace

    def replace(a: Path, b: Path) -> None:
        calls.append(a)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        real(a, b)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        _save(tmp_path / "last", model, optimiser, epoch=2)
    assert checkpoint.load(tmp_path / "last").progress["epoch"] in (1, 2)


def test_weights_of_another_model_name_the_tensor(tmp_path: Path) -> None:
    with pytest.raises(CalotError, match=r"another shape for 1 tensors.*head\.weight"):
        checkpoint.load_into(Small(), {"head.weight": torch.zeros(9, 9), "head.bias": torch.zeros(2)}, where=tmp_path)
    with pytest.raises(CalotError, match=r"unknown 1 tensors.*tail"):
        checkpoint.load_into(Small(), {"tail": torch.zeros(1)}, where=tmp_path)


def test_the_manifest_lists_every_other_file(tmp_path: Path) -> None:
    model, optimiser = _trained()
    _save(tmp_path / "last", model, optimiser)
    listed = json.loads((tmp_path / "last" / checkpoint.MANIFEST).read_text())
    assert set(listed) == {p.name for p in (tmp_path / "last").iterdir()} - {checkpoint.MANIFEST}
