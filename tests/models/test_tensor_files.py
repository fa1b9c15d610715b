"""Weights on disk: whole, readable by whom the umask lets read, and written in one place."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import calot
from calot.models.tensor_files import save_tensors


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_weights_have_the_mode_of_any_other_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        (tmp_path / "other").touch()
        save_tensors({"a": torch.arange(3.0)}, tmp_path / "model.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert torch.equal(load_file(tmp_path / "model.safetensors")["a"], torch.arange(3.0))


def test_a_mode_that_somebody_chose_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for value in (1.0, 2.0):
        save_tensors({"a": torch.full((2,), value)}, path)
        path.chmod(0o640)
    save_tensors({"a": torch.full((2, 2), 3.0).T}, path)
    assert path.stat().st_mode & 0o777 == 0o640
    assert torch.equal(load_file(path)["a"], torch.full((2, 2), 3.0))


def test_nothing_else_calls_the_writer() -> None:
    package = Path(calot.__file__).parent
    callers = {p.relative_to(package) for p in package.rglob("*.py") if "import save_file" in p.read_text()}
    assert callers == {Path("models/tensor_files.py")}
