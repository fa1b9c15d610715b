"""Weights & Biases: kept on this machine unless WANDB_MODE=online asks that it be sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calot.reading import read_record
from calot.tracking.followed import Followed
from calot.writing import write_json

_PROJECT, _STEP = "calot", "wandb.json"


@dataclass(frozen=True)
class WandbRun:
    """An open run of W&B's. Offline it cannot be asked for its last step, so that each is noted in a file."""

    run: Any
    note: Path

    def last_step(self) -> int:
        kept = int(read_record(self.note, remedy="remove it")["step"]) if self.note.exists() else 0
        return max(kept, int(self.run.starting_step) - 1)

    def write(self, row: Mapping[str, float], *, step: int) -> None:
        self.run.log(dict(row), step=step, commit=True)
        write_json(self.note, {"step": step})

    def close(self, *, complete: bool) -> None:
        self.run.finish(exit_code=0 if complete else 1)


@dataclass(frozen=True)
class Wandb:
    """The project `calot`, or WANDB_PROJECT; numbers and settings go along, no code, host, output or machine use."""

    package: str = "wandb"

    def look(self, run: Followed) -> str:
        if _mode() == "online":
            return "sent to Weights & Biases (WANDB_MODE=online)"
        return f"stays here; `wandb sync {run.place / 'wandb'}/*run-*` sends it, WANDB_MODE=online as it trains"

    def open(self, run: Followed) -> WandbRun:
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        import wandb

        opened = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=run.id,
            name=run.name,
            config=dict(run.settings),
            dir=str(run.place),
            mode=_mode(),
            resume="allow" if _mode() == "online" else None,
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                disable_job_creation=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )
        return WandbRun(opened, run.place / _STEP)


def _mode() -> Any:
    return os.environ.get("WANDB_MODE", "offline")


service = Wandb()
