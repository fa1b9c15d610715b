"""However a checkpoint is damaged: it is named, the one before it is used, and nothing ends in a stack trace."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
import torch

from calot.errors import CalotError
from calot.train import checkpoint

FILES = ("model.safetensors", "optimiser.safetensors", "state.json", "manifest.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints, one after the other, with an optimiser."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    model = torch.nn.Linear(5, 3)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    kept = checkpoint.Checkpoints(folder, every_s=600.0, say=lambda text: None)
    for epoch in (1, 2):
        model(torch.randn(4, 5)).square().sum().backward()
        optimiser.step()
        progress = {"stage": 0, "epoch": epoch, "best_epoch": -1}
        kept.save_last(tensors=checkpoint.model_tensors(model, published=False), optimiser=optimiser, progress=progress)
    return folder


def _damage(path: Path, rng: random.Random) -> None:
    """A flipped bit, a cut, or more at the end."""
    data = bytearray(path.read_bytes())
    match rng.randrange(3):
        case 0:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:
            del data[rng.randrange(len(data)) :]
        case _:
            data += rng.randbytes(1 + rng.randrange(50))
    path.write_bytes(data)


def _resumed(folder: Path) -> tuple[checkpoint.Checkpoint | None, list[str]]:
    said: list[str] = []
    return checkpoint.Checkpoints(folder, every_s=600.0, say=said.append).resume(), said


@pytest.mark.parametrize("seed", range(200))
def test_a_damaged_last_is_named_and_the_previous_one_used(whole: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    folder = tmp_path / "checkpoints"
    shutil.copytree(whole, folder)
    _damage(folder / "last" / rng.choice(FILES), rng)
    found, said = _resumed(folder)
    assert found is not None
    if found.progress["epoch"] == 2:  # white space in a manifest changes nothing that it says
        assert said == []
        assert checkpoint.load(folder / "last").progress["epoch"] == 2
    else:
        assert found.progress["epoch"] == 1
        assert said[0].startswith("checkpoint last: ")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pipe", "folder", "sparse", "gone"])
def test_what_is_no_file_of_a_checkpoint_is_named_without_waiting(
    whole: Path, tmp_path: Path, name: str, kind: str
) -> None:
    if kind == "pipe" and os.name == "nt":
        pytest.skip("no named pipes there")
    folder = tmp_path / "checkpoints"
    shutil.copytree(whole, folder)
    path = folder / "last" / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    found, said = _resumed(folder)
    assert found is not None
    assert found.progress["epoch"] == 1
    assert name in said[0]


def test_where_both_are_damaged_nothing_is_trained_again_unasked(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(whole, folder)
    for place in ("last", "previous"):
        (folder / place / "model.safetensors").write_bytes(b"")
    with pytest.raises(CalotError, match=r"last: model\.safetensors has 0 bytes.*previous: model\.safetensors"):
        _resumed(folder)
