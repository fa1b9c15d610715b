"""Finding and reading published weights: the hub, a local folder, the official `.pt` files."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from calot.errors import CalotError, first_line
from calot.identity import user_path

#: The encoder that comes with calot, by the name that `backbone.weights` takes; its card lies beside it.
EMBEDDED = "calot/tiny"
#: What it is, for files and pages.
EMBEDDED_IS = "pretrained on phantom operations, without labels; comes with calot"
_EMBEDDED_AT = Path(__file__).parent / "embedded" / "tiny"
_HUB_TIMEOUT_S = 5.0
#: numpy's numbers, harmless and common: a training script keeps its best mAP as scikit-learn gave it.
_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [np.dtype, *(type(np.dtype(k)) for k in ("f8", "f4", "i8", "i4", "?"))]
_NUMBERS += [(_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json"]


def find_weights(weights: str) -> Path:
    """A local folder with `config.json` and safetensors, downloaded from the hub if it is not cached yet.

    `EMBEDDED` is the folder inside calot. Raises CalotError within seconds when the hub cannot be reached and nothing
    is cached.
    """
    folder = _EMBEDDED_AT if weights == EMBEDDED else user_path(Path(weights))
    if folder.is_dir():
        if official_file(folder) is None and (
            not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors"))
        ):
            raise CalotError(f"{folder}: no weights here; expected config.json and *.safetensors")
        _require_readable(folder)
        return folder
    if not _may_be_hub_id(weights):
        raise CalotError(
            f"backbone.weights={weights!r}: no such folder or file, and not a hub id of the form owner/name"
        )
    return _from_hub(weights)


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers from drawing a bar for each read of a local file."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _may_be_hub_id(weights: str) -> bool:
    return weights.count("/") == 1 and not weights.startswith((".", "/", "~"))


def _require_readable(folder: Path) -> None:
    """Read every file's header: a truncated or foreign file is named here, not deep inside a loader."""
    config = folder / "config.json"
    try:
        if config.exists() and not isinstance(json.loads(config.read_text(encoding="utf-8")), dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise CalotError(f"{config}: not a model's configuration ({first_line(error)}); download it again") from None
    for path in sorted(folder.glob("*.safetensors")):
        require_whole_safetensors(path)


#: Bytes per number, by safetensors' type names.
_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
_BYTES |= dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1)


def require_whole_safetensors(path: Path) -> None:
    """Check a file's header against its bytes before any library reads it. Raises CalotError naming the file."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        _require_spans(header, size=size - 8 - length)
        with safe_open(path, framework="pt"):
            pass
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, SafetensorError) as error:
        raise CalotError(f"{path}: not a whole safetensors file ({first_line(error)}); download it again") from None


def _require_spans(header: dict[str, Any], *, size: int) -> None:
    """The tensors lie one after the other and fill the file, each of the bytes that its type and shape say."""
    end = 0
    entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
    for name, entry in sorted(entries, key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in _BYTES:
            raise ValueError(f"{name} is of an unknown type {entry['dtype']!r}")
        first, last = entry["data_offsets"]
        if first != end or last - first != math.prod(entry["shape"]) * _BYTES[entry["dtype"]]:
            raise ValueError(f"{name} does not lie where its type and shape say")
        end = last
    if end != size:
        raise ValueError(f"its tensors end at byte {end} of {size}")


def official_file(place: Path) -> Path | None:
    """The file of official names (`blocks.0.attn.qkv` ...): the place itself, or the one in that folder, if any."""
    if place.suffix in (".pt", ".pth", ".safetensors"):
        return place
    torch_files = sorted([*place.glob("*.pt"), *place.glob("*.pth")])
    if len(torch_files) == 1 and not list(place.glob("*.safetensors")):
        return torch_files[0]
    for path in sorted(place.glob("*.safetensors"))[:1]:
        require_whole_safetensors(path)
        with safe_open(path, framework="pt") as file:
            if any("blocks." in name for name in file.keys()):  # noqa: SIM118  # not a dict
                return path
    return None


def local_weights(weights: str) -> Path | None:
    """Weights that are on this machine (a folder, an official file, the hub's cache), or None; uses no network."""
    if weights.endswith((".pt", ".pth")):
        file = user_path(Path(weights))
        return file if file.is_file() else None
    if weights == EMBEDDED or user_path(Path(weights)).is_dir() or not _may_be_hub_id(weights):
        return find_weights(weights)
    return _cached(weights)


def _cached(weights: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(weights, allow_patterns=_FILES, local_files_only=True))
    except Exception:  # not cached: whatever the cause, the next question is whether the hub answers
        return None
    whole = (folder / "config.json").is_file() and list(folder.glob("*.safetensors"))
    return folder if whole else None  # an interrupted download also leaves a folder


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
        "or try the whole pipeline without them: --scale tiny, which uses the small encoder that comes with calot."
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
                f"{path}: holds the Python object {refused[1]} beside its tensors, and calot runs no code from a "
                "file. If you trust it, save its state dict alone with the program that wrote it."
            ) from None
        said = first_line(error).split(". ")[0]
        said = "torch.save did not write it" if "Weights only" in said else said
        raise CalotError(f"{path}: not a readable checkpoint of tensors ({said})") from None


def read_official_encoder(path: Path, *, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An official V-JEPA 2 `.pt` as a state dict for transformers' encoder.

    The file holds `encoder` (as the official hub loader reads it) with fused `qkv` under `blocks.N.attn`; training
    wrappers (`module.`, `backbone.`) are dropped. Raises CalotError naming tensors that are missing or misshapen.
    """
    state: dict[str, Tensor] = {}
    for key, tensor in _official_tensors(path).items():
        plain = key.replace("module.", "").replace("backbone.", "").replace("encoder.", "")
        if plain == "pos_embed" and tensor.ndim == 3 and tensor.shape[1] in _FIRST_TABLES:
            raise CalotError(
                f"{path}: a V-JEPA 1 checkpoint (its table of positions has {tensor.shape[1]:,} entries), whose "
                "encoder adds positions that V-JEPA 2's does not have. Use V-JEPA 2 weights; if the file is from a "
                "rotary encoder anyway, remove pos_embed from it."
            )
        state |= official_encoder_names(plain, tensor)
    missing = sorted(set(expected) - set(state))
    unknown = sorted(set(state) - set(expected))
    shapes = sorted(k for k in set(expected) & set(state) if expected[k].shape != state[k].shape)
    for what, keys in (("lacks", missing), ("has unknown", unknown), ("has another shape for", shapes)):
        if keys:
            raise CalotError(f"{path}: {what} {len(keys)} encoder tensors, first {keys[0]}; is it of another size?")
    return state


#: Lengths of V-JEPA 1's published tables: 16 frames of 224 or of 384 pixels. V-JEPA 2's carry one too, of others.
_FIRST_TABLES = (8 * 14 * 14, 8 * 24 * 24)


def _official_tensors(path: Path) -> dict[str, Tensor]:
    """The encoder's tensors under their official names, wherever the file stores them."""
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise CalotError(f"{path}: no such file")
        require_whole_safetensors(path)
        data: Any = load_file(path)
    else:
        data = read_pt(path)
    data = data if isinstance(data, dict) else {}
    kept = next((data[k] for k in _KEPT_UNDER if isinstance(data.get(k), dict)), data)
    tensors = {str(k): v for k, v in kept.items() if isinstance(v, Tensor)}
    if "ema_encoder" in data or any("norms_block" in k or "modality" in k for k in tensors):
        raise CalotError(
            f"{path}: a V-JEPA 2.1 checkpoint, whose encoder differs from V-JEPA 2's (positions, patch embedding, "
            "norms) and is not supported yet. Use V-JEPA 2 weights."
        )
    if not any("blocks." in k or "layer." in k for k in tensors):  # transformers' names are taken as they are
        raise CalotError(f"{path}: holds neither 'encoder' nor 'target_encoder'; not an official V-JEPA 2 checkpoint")
    return tensors


#: Where an official file keeps the encoder.
_KEPT_UNDER = ("encoder", "target_encoder", "backbone", "ema_encoder")


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
