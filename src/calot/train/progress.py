"""Where a run stands, and whether a checkpoint's statement of it is possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from calot.errors import CalotError
from calot.train.stage import Stage

_AGAIN = "Train again with --overwrite."


@dataclass
class Progress:
    """Where a run stands, beside its weights and optimiser: all that a resume needs, and no clock times.

    `epoch` and `batch` are the next to do; `step` counts optimiser steps of this stage; `loss_sum`, `clips` and
    `terms` (of each loss term the sum over batches and the batches that had it) are the running epoch's; `best_score`
    is what the best epoch was selected by; `rows` is metrics.csv so far; `starts` says of each later stage whether it
    began as the best of the one before; `observed` are the readings of each epoch that ended, `observing` those of the
    running one (of each: count, sum, least, greatest).
    """

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    clips: int = 0
    terms: dict[str, list[float]] = field(default_factory=dict)
    best_score: float | None = None
    best_epoch: int = -1
    rows: list[dict[str, Any]] = field(default_factory=list)
    starts: list[dict[str, Any]] = field(default_factory=list)
    observed: list[dict[str, Any]] = field(default_factory=list)
    observing: dict[str, list[float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any, *, where: Path) -> Progress:
        """What `to_dict` gave. Raises CalotError naming `where` for another version's data or an impossible value."""
        if not isinstance(data, dict):
            raise CalotError(f"{where}: progress is not an object. {_AGAIN}")
        known = {f.name for f in fields(cls)}
        for what, names in (("has", data.keys() - known), ("lacks", known - data.keys())):
            if names:
                raise CalotError(f"{where}: progress {what} {min(names)!r}: of another version of calot. {_AGAIN}")
        for name, value in data.items():
            if not _fits(name, value):
                raise CalotError(f"{where}: progress.{name}={str(value)[:60]} is impossible. {_AGAIN}")
        return cls(**data)

    def require_possible(
        self, *, stages: Sequence[Stage], clips: int, skipping: bool, selected_by: str, where: Path
    ) -> None:
        """Raises CalotError, naming field and value, for progress that no run of these stages over `clips`
        training clips could have. `skipping`: a loss scaler may skip steps. `selected_by`: the column of `rows` that
        selects the best."""
        for name, value, why in self._impossible(
            stages=stages, clips=clips, skipping=skipping, selected_by=selected_by
        ):
            raise CalotError(f"{where}: progress.{name}={value} is impossible: {why}. {_AGAIN}")

    def _impossible(
        self, *, stages: Sequence[Stage], clips: int, skipping: bool, selected_by: str
    ) -> list[tuple[str, Any, str]]:
        if self.stage > len(stages):
            return [("stage", self.stage, f"the run has {len(stages)}, counted from 0")]
        started = min(self.stage, len(stages) - 1)
        wrong: list[tuple[str, Any, str]] = []
        if len(self.starts) != started:
            wrong.append(("starts", f"{len(self.starts)} entries", f"{started} later stages have begun"))
        if self.stage == len(stages):
            fresh = Progress(stage=self.stage, rows=self.rows, starts=self.starts, observed=self.observed)
            moved = [f.name for f in fields(self) if getattr(self, f.name) != getattr(fresh, f.name)]
            return wrong + [(name, getattr(self, name), "training is complete") for name in moved] + self._rows(stages)
        stage = stages[self.stage]
        per_epoch = -(-clips // stage.batch)
        last, steps = stage.epochs, self.epoch * per_epoch + self.batch
        seen = min(self.batch * stage.batch, clips)
        checks = (
            ("epoch", self.epoch <= last, f"stage {self.stage + 1} has {last} epochs"),
            ("batch", self.batch <= (per_epoch if self.epoch < last else 0), f"{per_epoch} batches make an epoch"),
            ("step", self.step == steps or (skipping and self.step < steps), f"{steps} steps lead here"),
            ("clips", self.clips == seen, f"{self.batch} batches hold {seen} clips"),
            ("terms", all(n <= self.batch for _, n in self.terms.values()), f"{self.batch} batches were made"),
            ("loss_sum", self.batch > 0 or self.loss_sum == 0, "no batch of this epoch was made"),
            ("best_epoch", self.best_epoch < max(self.epoch, 0) or self.best_epoch == -1, "no such epoch has ended"),
            ("best_epoch", self.best_epoch == -1 or stage.scores(epoch=self.best_epoch), "that epoch is not scored"),
            ("best_score", (self.best_score is None) == (self.best_epoch == -1), f"best_epoch is {self.best_epoch}"),
            ("batch", not self.batch or not self._out_of_patience(stage), "patience had ended"),
        )
        wrong += [(name, getattr(self, name), why) for name, fine, why in checks if not fine]
        return wrong or self._rows(stages, selected_by=selected_by)

    def _out_of_patience(self, stage: Stage) -> bool:
        """Whether the stage had to end with the last epoch that did."""
        ended = self.epoch > 0 and stage.scores(epoch=self.epoch - 1)
        return ended and self.epoch - 1 - self.best_epoch >= stage.patience

    def _rows(self, stages: Sequence[Stage], *, selected_by: str | None = None) -> list[tuple[str, Any, str]]:
        """That `rows` are the epochs that ended, in order, and hold the best epoch's score."""
        found = [(row.get("stage"), row.get("epoch")) for row in self.rows]
        ended = [sum(s == number for s, _ in found) for number in range(1, len(stages) + 1)]
        if self.stage < len(stages):
            ended[self.stage :] = [self.epoch, *[0] * (len(stages) - self.stage - 1)]
        wanted = [(number, e) for number, count in enumerate(ended, start=1) for e in range(1, count + 1)]
        short = [n for n, count in enumerate(ended[: self.stage], start=1) if not 1 <= count <= stages[n - 1].epochs]
        if found != wanted or short:
            return [("rows", f"{len(found)} epochs", "they are not the epochs that have ended, in order")]
        if selected_by is not None and self.best_epoch >= 0:
            kept = self.rows[len(found) - self.epoch + self.best_epoch].get(selected_by)
            if kept is not None and kept != self.best_score:
                return [("best_score", self.best_score, f"epoch {self.best_epoch + 1} had {selected_by} {kept}")]
        return []


def _fits(name: str, value: Any) -> bool:
    """Whether a field's value is of its kind."""
    if name in ("stage", "epoch", "batch", "step", "clips", "best_epoch"):
        return type(value) is int and value >= (-1 if name == "best_epoch" else 0)
    if name in ("loss_sum", "best_score"):
        return (name == "best_score" and value is None) or _finite(value)
    if name == "terms":
        pairs = value.values() if isinstance(value, dict) else [None]
        return all(isinstance(p, list) and len(p) == 2 and _finite(p[0]) and _whole(p[1]) for p in pairs)
    if name == "observing":
        return isinstance(value, dict) and all(_is_tally(tally) for tally in value.values())
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def _is_tally(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and _whole(value[0]) and all(map(_finite, value[1:]))


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 0
