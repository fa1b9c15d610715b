"""Checkpoints: safetensors and JSON, a SHA-256 a file, the manifest written last, the old one replaced only then."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from calot.errors import CalotError
from calot.writing import sync

MODEL, OPTIMISER, STATE, MANIFEST = "model.safetensors", "optimiser.safetensors", "state.json", "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a folder held: tensors to load into the model, the optimiser's state or None, and the run's progress."""

    tensors: dict[str, Tensor]
    optimiser: dict[str, Any] | None
    progress: dict[str, Any]


def model_tensors(model: nn.Module, *, published: bool) -> dict[str, Tensor]:
    """The tensors a checkpoint must hold. With `published` weights, the backbone's frozen tensors are left out: they
    come again from their source."""
    frozen = {n for n, p in model.named_parameters() if n.startswith("backbone.") and not p.requires_grad}
    state = model.state_dict()
    return {k: v.detach().cpu().contiguous() for k, v in state.items() if not (published and k in frozen)}


def load_into(model: nn.Module, tensors: dict[str, Tensor], *, where: Path) -> None:
    """Load a checkpoint's tensors. Raises CalotError when one is unknown, has another shape, or a needed one lacks."""
    own = model.state_dict()
    unknown = sorted(set(tensors) - set(own))
    shapes = sorted(k for k in set(tensors) & set(own) if tensors[k].shape != own[k].shape)
    missing = sorted(k for k in set(own) - set(tensors) if not k.startswith("backbone."))
    for what, keys in (("unknown", unknown), ("another shape for", shapes), ("no", missing)):
        if keys:
            raise CalotError(f"{where}: the checkpoint has {what} {len(keys)} tensors of this model, first {keys[0]}")
    model.load_state_dict(tensors, strict=False)


def save(
    folder: Path, *, tensors: dict[str, Tensor], optimiser: torch.optim.Optimizer | None, progress: dict[str, Any]
) -> None:
    """Write a checkpoint beside `folder` and put it in its place; a kill at any moment leaves a whole one to load."""
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    save_file(tensors, new / MODEL)
    state: dict[str, Any] = {"progress": progress, "optimiser": None}
    if optimiser is not None:
        whole = optimiser.state_dict()
        flat = {f"{i}.{k}": v for i, entry in whole["state"].items() for k, v in entry.items()}
        save_file({k: v.detach().cpu().contiguous() for k, v in flat.items()}, new / OPTIMISER)
        state["optimiser"] = whole["param_groups"]
    (new / STATE).write_text(json.dumps(state))
    files = sorted(p for p in new.iterdir())
    (new / MANIFEST).write_text(json.dumps({p.name: _sha256(p) for p in files}, indent=1))
    for path in new.iterdir():
        sync(path)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)


def exists(folder: Path) -> bool:
    """Whether anything was ever saved here."""
    return any(folder.with_name(folder.name + end).exists() for end in ("", ".new", ".old"))


def load(folder: Path) -> Checkpoint:
    """Read the newest whole checkpoint: `folder`, else the one it was about to replace.

    Raises CalotError when there is none, naming what is wrong with each.
    """
    problems = []
    for candidate in (folder, folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")):
        problem = _problem(candidate)
        if problem is None:
            return _read(candidate)
        problems.append(f"{candidate.name}: {problem}")
    raise CalotError(f"{folder}: no whole checkpoint here ({'; '.join(problems)}). Train again with --overwrite.")


def _problem(folder: Path) -> str | None:
    if not folder.is_dir():
        return "absent"
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        wrong = [name for name, digest in manifest.items() if _sha256(folder / name) != digest]
    except (OSError, ValueError, AttributeError):
        return "incomplete"
    return f"{wrong[0]} does not match its checksum" if wrong else None


def _read(folder: Path) -> Checkpoint:
    state = json.loads((folder / STATE).read_text())
    optimiser = None
    if state["optimiser"] is not None:
        entries: dict[int, dict[str, Tensor]] = {}
        for key, tensor in load_file(folder / OPTIMISER).items():
            index, _, name = key.partition(".")
            entries.setdefault(int(index), {})[name] = tensor
        optimiser = {"state": entries, "param_groups": state["optimiser"]}
    return Checkpoint(load_file(folder / MODEL), optimiser, state["progress"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
