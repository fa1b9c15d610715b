"""Tensors written to disk: the one place that calls safetensors' writer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], path: Path, *, of_torch: bool = False) -> None:
    """Write tensors of any device as safetensors, replacing the file. `of_torch` notes the format for transformers.

    safetensors makes its file readable to its owner alone, whatever the umask says, and colleagues on a shared disk
    could read all of a run but its weights: the file gets the mode of any other new file there.
    """
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode & 0o777
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, path, metadata={"format": "pt"} if of_torch else None)
    path.chmod(mode)
