"""Checkpoints: safetensors and JSON, a SHA-256 per file, the manifest written last, the old one replaced only then."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from calot.errors import CalotError
from calot.models.adaptation import canonical_name
from calot.models.tensor_files import save_tensors
from calot.provenance.checkpoint_files import MANIFEST, MODEL, OPTIMISER, STATE, problem_of
from calot.provenance.custody import Identity
from calot.reading import read_json, sha256_of
from calot.writing import clear_disk_errors, sync, sync_folder


@dataclass(frozen=True)
class Checkpoint:
    """What a folder held: tensors to load into the model, the optimiser's state or None, the run's progress, and which
    run it is of (None where it does not say)."""

    tensors: dict[str, Tensor]
    optimiser: dict[str, Any] | None
    progress: dict[str, Any]
    run: dict[str, Any] | None = None


def model_tensors(model: nn.Module, *, published: bool, trained: Collection[nn.Parameter] = ()) -> dict[str, Tensor]:
    """The tensors a checkpoint must hold. With `published` weights, the backbone's frozen tensors are left out: they
    are read again from their source, except those that an earlier stage `trained`."""
    moved = {id(p) for p in trained}
    frozen = {
        n
        for n, p in model.named_parameters()
        if n.startswith("backbone.") and not p.requires_grad and id(p) not in moved
    }
    kept = {k: v for k, v in model.state_dict().items() if not (published and k in frozen)}
    return {canonical_name(k): v.detach().cpu().contiguous() for k, v in kept.items()}


def load_into(model: nn.Module, tensors: dict[str, Tensor], *, where: Path) -> None:
    """Load a checkpoint's tensors. Raises CalotError for an unknown, misshapen or missing one."""
    own = {canonical_name(k): v for k, v in model.state_dict().items()}
    unknown = sorted(set(tensors) - set(own))
    shapes = sorted(k for k in set(tensors) & set(own) if tensors[k].shape != own[k].shape)
    missing = sorted(k for k in set(own) - set(tensors) if not k.startswith("backbone.") or ".lora_" in k)
    for what, keys in (("unknown", unknown), ("another shape for", shapes), ("no", missing)):
        if keys:
            raise CalotError(f"{where}: the checkpoint has {what} {len(keys)} tensors of this model, first {keys[0]}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def save(
    folder: Path,
    *,
    tensors: dict[str, Tensor],
    optimiser: torch.optim.Optimizer | None,
    progress: dict[str, Any],
    run: dict[str, Any] | None = None,
    previous: Path | None = None,
) -> None:
    """Write a checkpoint beside `folder` and put it in its place; a kill at any moment leaves an intact one to load.

    The old one becomes `previous`, or is removed. Raises CalotError where the disk is full; the old one stays.
    """
    new, old = folder.with_name(folder.name + ".new"), previous or folder.with_name(folder.name + ".old")
    with clear_disk_errors(new):
        shutil.rmtree(new, ignore_errors=True)
        try:
            _write(new, tensors=tensors, optimiser=optimiser, state={"run": run, "progress": progress})
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
        os.replace(new, folder)
        sync_folder(folder.parent)
    if previous is None:
        shutil.rmtree(old, ignore_errors=True)


def _write(
    folder: Path, *, tensors: dict[str, Tensor], optimiser: torch.optim.Optimizer | None, state: dict[str, Any]
) -> None:
    folder.mkdir(parents=True)
    save_tensors(tensors, folder / MODEL)
    state["optimiser"] = None
    if optimiser is not None:
        whole = optimiser.state_dict()
        flat = {f"{i}.{k}": v for i, entry in whole["state"].items() for k, v in entry.items()}
        save_tensors(flat, folder / OPTIMISER)
        state["optimiser"] = whole["param_groups"]
        scaler = getattr(optimiser, "scaler", None)  # fp16's loss scaler, which accelerate attaches to the optimiser
        state["scaler"] = scaler and scaler.state_dict()
    (folder / STATE).write_text(json.dumps(state))
    digests = {p.name: {"bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in sorted(folder.iterdir())}
    for name in digests:
        sync(folder / name)
    (folder / MANIFEST).write_text(json.dumps(digests, indent=1))
    sync(folder / MANIFEST)
    sync_folder(folder)


def load(folder: Path) -> Checkpoint:
    """Read the checkpoint at `folder`, or the finished one that a kill kept from being put there.

    Raises CalotError when there is no intact one, naming what is wrong with it.
    """
    place = _standing(folder)
    problem = problem_of(place)
    if problem is not None:
        raise CalotError(f"{folder}: no intact checkpoint here ({problem}). Train again with --overwrite.")
    return _read(place)


def _standing(folder: Path) -> Path:
    """`folder`, or its `.new` one between two renames: which is then intact, and never older than the missing one."""
    new = folder.with_name(folder.name + ".new")
    return new if new.exists() and not folder.exists() else folder


def _settle(folder: Path) -> None:
    """Put a finished checkpoint in its place where a kill fell between the two renames of `save`."""
    standing = _standing(folder)
    if standing != folder and problem_of(standing) is None:
        os.replace(standing, folder)
        sync_folder(folder.parent)


def restore(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put an optimiser, and fp16's loss scaler with it, where a checkpoint left them."""
    optimiser.load_state_dict({k: v for k, v in state.items() if k != "scaler"})
    scaler = getattr(optimiser, "scaler", None)
    if scaler is not None and state["scaler"]:
        scaler.load_state_dict(state["scaler"])


@dataclass
class Checkpoints:
    """A run's checkpoints below `folder`: `last`, the `previous` one, and `best`, that of the best epoch so far.

    `every_s`: seconds after which the next one within an epoch is due. `say` is called when a damaged one is skipped.
    `run` is whose they are, which each carries and is held to.
    """

    folder: Path
    every_s: float
    say: Callable[[str], None]
    run: Identity | None = None
    saved: float = field(default_factory=time.monotonic)

    @property
    def last(self) -> Path:
        return self.folder / "last"

    @property
    def previous(self) -> Path:
        return self.folder / "previous"

    @property
    def best(self) -> Path:
        return self.folder / "best"

    def due(self) -> bool:
        """Whether the last one was saved long enough ago."""
        return time.monotonic() - self.saved >= self.every_s

    def save_last(
        self, *, tensors: dict[str, Tensor], optimiser: torch.optim.Optimizer | None, progress: dict[str, Any]
    ) -> None:
        save(
            self.last,
            tensors=tensors,
            optimiser=optimiser,
            progress=progress,
            run=self._own,
            previous=self.previous,
        )
        self.saved = time.monotonic()

    def save_best(self, *, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
        save(self.best, tensors=tensors, optimiser=None, progress=progress, run=self._own)

    @property
    def _own(self) -> dict[str, Any] | None:
        return None if self.run is None else self.run.to_json()

    def _require_own(self, run: dict[str, Any] | None, *, where: Path) -> None:
        if self.run is not None:
            self.run.require(run, where=where)

    def resume(self) -> Checkpoint | None:
        """The newest intact one that fits `best`, or None where none was ever finished.

        Raises CalotError where there are some and all are damaged: nothing is then retrained without being asked.
        """
        problems: list[str] = []
        _settle(self.best)
        _settle(self.last)
        for place in (_standing(self.last), self.previous):
            if not place.exists():
                continue
            problem = problem_of(place)
            if problem is None:
                found = _read(place)
                self._require_own(found.run, where=place)
                problem = self._lacks_best(found.progress)
            if problem is None:
                for line in problems:
                    self.say(f"checkpoint {line}; continuing from the one before it ({place.name})")
                return found
            problems.append(f"{place.name}: {problem}")
        if not self.last.exists() and not self.previous.exists():
            return None  # at most a first one that was never finished
        raise CalotError(
            f"{self.folder}: no intact checkpoint to continue from ({'; '.join(problems)}). "
            "Train again with --overwrite."
        )

    def best_of(self, progress: dict[str, Any]) -> Checkpoint:
        """The best epoch's checkpoint, checked against the run's record of it."""
        found = load(self.best)
        self._require_own(found.run, where=self.best)
        if _epoch(found.progress) != _epoch(progress):
            raise CalotError(
                f"{self.best} holds stage and epoch {_epoch(found.progress)}, the run's best was {_epoch(progress)} "
                f"(from 0): the folder was mixed from two runs. Train again with --overwrite."
            )
        return found

    def _lacks_best(self, progress: dict[str, Any]) -> str | None:
        """Why a run at this point could not find its best epoch again, or None. A later epoch of the same stage
        is fine: it was written just before a kill, and training reaches it again."""
        if progress["best_epoch"] < 0:
            return None
        place = _standing(self.best)
        problem = problem_of(place)
        if problem is None:
            state = _read_state(place)
            self._require_own(state.get("run"), where=place)
            (stage, epoch), (own_stage, own_epoch) = _epoch(state["progress"]), _epoch(progress)
            problem = None if stage == own_stage and epoch >= own_epoch else "is of another stage or an older epoch"
        return None if problem is None else f"its best epoch is lost ({place.name}: {problem})"


def _epoch(progress: dict[str, Any]) -> tuple[int, int]:
    """Which stage's which epoch was best; both from 0."""
    return progress["stage"], progress["best_epoch"]


def _read(folder: Path) -> Checkpoint:
    state = _read_state(folder)
    optimiser = None
    if state["optimiser"] is not None:
        entries: dict[int, dict[str, Tensor]] = {}
        for key, tensor in load_file(folder / OPTIMISER).items():
            index, _, name = key.partition(".")
            entries.setdefault(int(index), {})[name] = tensor
        optimiser = {"state": entries, "param_groups": state["optimiser"], "scaler": state.get("scaler")}
    return Checkpoint(load_file(folder / MODEL), optimiser, state["progress"], state.get("run"))


def _read_state(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = read_json(folder / STATE)
    return state
