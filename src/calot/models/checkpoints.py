"""Finding and reading published weights: the hub, a local folder, the official `.pt` files."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from calot.errors import CalotError, first_line
from calot.identity import user_path

_HUB_TIMEOUT_S = 5.0
#: numpy's numbers, harmless and common: a training script keeps its best mAP as scikit-learn gave it.
_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [np.dtype, *(type(np.dtype(k)) for k in ("f8", "f4", "i8", "i4", "?"))]
_NUMBERS += [(_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json"]


def find_weights(weights: str) -> Path:
    """A local folder with `config.json` and safetensors, downloaded from the hub if it is not cached yet.

    Raises CalotError within seconds when the hub cannot be reached and nothing is cached.
    """
    folder = user_path(Path(weights))
    if folder.is_dir():
        if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
            raise CalotError(f"{folder}: no weights here; expected config.json and *.safetensors")
        _require_readable(folder)
        return folder
    if weights.startswith((".", "/", "~")) or weights.count("/") != 1:
        raise CalotError(
            f"backbone.weights={weights!r}: no such folder or file, and not a hub id of the form owner/name"
        )
    return _from_hub(weights)


def _require_readable(folder: Path) -> None:
    """Open every file's head: a cut or foreign file is named here, not deep inside a loader."""
    config = folder / "config.json"
    try:
        if not isinstance(json.loads(config.read_text(encoding="utf-8")), dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise CalotError(f"{config}: not a model's configuration ({first_line(error)}); download it again") from None
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise CalotError(f"{path}: not a whole safetensors file ({first_line(error)}); download it again") from None


def local_weights(weights: str) -> Path | None:
    """Weights that are on this machine (a folder, an official file, the hub's cache), or None; asks no network."""
    if weights.endswith((".pt", ".pth")):
        file = user_path(Path(weights))
        return file if file.is_file() else None
    if user_path(Path(weights)).is_dir() or weights.count("/") != 1 or weights.startswith((".", "/", "~")):
        return find_weights(weights)
    return _cached(weights)


def _cached(weights: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(weights, allow_patterns=_FILES, local_files_only=True))
    except Exception:  # not cached: every cause ends in the same question, whether the hub answers
        return None
    whole = (folder / "config.json").is_file() and list(folder.glob("*.safetensors"))
    return folder if whole else None  # a download that was cut short leaves a folder, too


def _from_hub(weights: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if (cached := _cached(weights)) is not None:
        return cached
    if HF_HUB_OFFLINE:
        raise CalotError(_unreachable(weights, "HF_HUB_OFFLINE is set"))
    try:
        HfApi().model_info(weights, timeout=_HUB_TIMEOUT_S)
        return Path(snapshot_download(weights, allow_patterns=_FILES))
    except Exception as error:  # the hub's client raises several unrelated families of errors
        raise CalotError(_unreachable(weights, first_line(error))) from None


def _unreachable(weights: str, why: str) -> str:
    return (
        f"backbone.weights={weights!r} are not on this machine and the hub did not give them ({why}). "
        "Remedies: download them where there is a network and set backbone.weights=FOLDER, "
        "or try the whole line without them: --scale tiny, which uses random weights and says so."
    )


def read_pt(path: Path) -> Any:
    """Read a `.pt` file without running any code it may hold. Raises CalotError when it is missing or corrupt."""
    path = user_path(path)
    if not path.is_file():
        raise CalotError(f"{path}: no such file")
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        refused = re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", str(error))
        if refused is not None:
            raise CalotError(
                f"{path}: holds the Python object {refused[1]} beside its tensors, and calot runs no code out of a "
                "file. Where you trust it, save its state dict alone with the program that wrote it."
            ) from None
        said = first_line(error).split(". ")[0]
        said = "it is nothing that torch.save wrote" if "Weights only" in said else said
        raise CalotError(f"{path}: not a readable checkpoint of tensors ({said})") from None


def read_official_encoder(path: Path, *, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An official V-JEPA 2 `.pt` as a state dict for transformers' encoder.

    The file holds `encoder` (as the official hub loader reads it) with fused `qkv` under `blocks.N.attn`; training
    wrappers (`module.`, `backbone.`) are dropped. Raises CalotError naming tensors that lack or have another shape.
    """
    data = read_pt(path)
    source = data.get("encoder", data.get("target_encoder")) if isinstance(data, dict) else None
    if not isinstance(source, dict):
        raise CalotError(f"{path}: holds neither 'encoder' nor 'target_encoder'; not an official V-JEPA 2 checkpoint")
    state: dict[str, Tensor] = {}
    for key, tensor in source.items():
        state |= official_encoder_names(key.replace("module.", "").replace("backbone.", ""), tensor)
    missing = sorted(set(expected) - set(state))
    unknown = sorted(set(state) - set(expected))
    shapes = sorted(k for k in set(expected) & set(state) if expected[k].shape != state[k].shape)
    for what, keys in (("lacks", missing), ("has unknown", unknown), ("has another shape for", shapes)):
        if keys:
            raise CalotError(f"{path}: {what} {len(keys)} encoder tensors, first {keys[0]}; is it of another size?")
    return state


def official_encoder_names(key: str, tensor: Tensor) -> dict[str, Tensor]:
    """A tensor of the official encoder under transformers' names: a fused qkv becomes three, positions none."""
    if key == "pos_embed":  # a sine table that the rotary model does not use
        return {}
    key = key.replace("patch_embed.", "embeddings.patch_embeddings.").replace("blocks.", "layer.")
    key = key.replace(".attn.", ".attention.")
    key = "layernorm." + key.removeprefix("norm.") if key.startswith("norm.") else key
    if ".qkv." not in key:
        return {key: tensor}
    parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
    return {key.replace(".qkv.", f".{name}."): part.clone() for name, part in parts}
