"""Finding and reading published weights: the hub, a local folder, the official `.pt` files."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from calot.errors import CalotError, first_line
from calot.identity import user_path
from calot.reading import require_file

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
#: What is taken of a hub folder that has no safetensors: its authors' own files.
_TORCH_FILES = ["*.pt", "*.pth"]


@dataclass(frozen=True, kw_only=True)
class ReadFrom:
    """The files that a backbone's weights were read from, and the key of a file that holds several state dicts."""

    files: tuple[Path, ...]
    key: str | None = None


def find_weights(weights: str) -> Path:
    """A local folder with `config.json` and safetensors, downloaded from the hub if it is not cached yet.

    `EMBEDDED` is the folder inside calot. Raises CalotError within seconds when the hub cannot be reached and nothing
    is cached.
    """
    folder = _EMBEDDED_AT if weights == EMBEDDED else user_path(Path(weights))
    if folder.is_dir():
        if official_file(folder) is None and not _is_whole(folder):
            if len(several := [path.name for path in _torch_files(folder)]) > 1:
                raise CalotError(f"{folder}: holds {', '.join(several)}; name one: backbone.weights=FOLDER/FILE")
            raise CalotError(f"{folder}: no weights here; expected config.json and *.safetensors, or one .pt file")
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
    torch_files = _torch_files(place)
    if len(torch_files) == 1 and not list(place.glob("*.safetensors")):
        return torch_files[0]
    for path in sorted(place.glob("*.safetensors"))[:1]:
        require_whole_safetensors(path)
        with safe_open(path, framework="pt") as file:
            if any("blocks." in name for name in file.keys()):  # noqa: SIM118  # not a dict
                return path
    return None


def _torch_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.pt"), *folder.glob("*.pth")])


def _is_whole(folder: Path) -> bool:
    """Whether a folder is one that transformers wrote; an interrupted download is not."""
    return (folder / "config.json").is_file() and bool(list(folder.glob("*.safetensors")))


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
        folder = Path(snapshot_download(weights, allow_patterns=[*_FILES, *_TORCH_FILES], local_files_only=True))
    except Exception:  # not cached: whatever the cause, the next question is whether the hub answers
        return None
    return folder if _is_whole(folder) or _torch_files(folder) else None


def _from_hub(weights: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if (cached := _cached(weights)) is not None:
        return find_weights(str(cached))
    if HF_HUB_OFFLINE:
        raise CalotError(_unreachable(weights, "HF_HUB_OFFLINE is set"))
    try:
        held = [file.rfilename for file in HfApi().model_info(weights, timeout=_HUB_TIMEOUT_S).siblings or ()]
        wanted = _FILES if any(name.endswith(".safetensors") for name in held) else _TORCH_FILES
        folder = snapshot_download(weights, allow_patterns=wanted)
    except Exception as error:  # the hub's client raises several unrelated families of errors
        raise CalotError(_unreachable(weights, first_line(error))) from None
    return find_weights(str(folder))


def _unreachable(weights: str, why: str) -> str:
    return (
        f"backbone.weights={weights!r} are not on this machine and the hub did not give them ({why}). "
        "Remedies: download them where there is a network and set backbone.weights=FOLDER, "
        "or try the whole pipeline without them: --scale tiny, which uses the small encoder that comes with calot."
    )


def read_pt(path: Path) -> Any:
    """Read a `.pt` file without running any code it may hold. Raises CalotError when it is missing or corrupt."""
    path = user_path(path)
    require_file(path, remedy="Give a .pt file that torch.save wrote.")
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
