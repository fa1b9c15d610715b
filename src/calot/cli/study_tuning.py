"""`calot study --tune`: every experiment at the same settings, too, so that each is compared at its own best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calot.run.request import Request
    from calot.sweeping.jobs import JobRecord


@dataclass(frozen=True)
class TunedRun:
    """A run at one of the settings that are tried, and the words that set it."""

    request: Request
    setting: tuple[str, ...]


def settings_of(tune: Sequence[str] | None) -> list[tuple[str, ...]]:
    """The settings that every experiment is tuned over. Raises CalotError for fewer than a tuned side needs."""
    from calot.cli.sweep import combinations
    from calot.errors import CalotError
    from calot.statistics.tuned import LEAST_SETTINGS

    found = combinations(tune) if tune else []
    if tune and len(found) < LEAST_SETTINGS:
        raise CalotError(
            f"--tune {' '.join(tune)}: {len(found)} settings; at least {LEAST_SETTINGS}, such as "
            "train.lr=1e-4,3e-4,1e-3,3e-3,1e-2"
        )
    return found


def runs_at(requests: Sequence[Request], *, setting: tuple[str, ...], out: Path) -> list[TunedRun]:
    """The runs of one setting, in folders as `calot train --sweep` lays them out, below the study's own."""
    from calot.cli.sweep import setting_name
    from calot.report.study.folder import TUNED

    homes = [out / TUNED / r.experiment.name / setting_name(setting) / f"s{r.seed}" for r in requests]
    return [TunedRun(replace(r, folder=home), setting) for r, home in zip(requests, homes, strict=True)]


def keep_choices(tuned: Sequence[TunedRun], records: Mapping[str, JobRecord]) -> list[str]:
    """Keep the choice of each experiment whose settings are all trained, as sweep.json; returns the runs that are not
    done, with what became of them."""
    from calot.cli.sweep import choices
    from calot.sweeping.jobs import DONE

    folders = [each.request.folder for each in tuned]
    left = {folder: records[str(folder)].state for folder in folders if records[str(folder)].state != DONE}
    without = {folder.parents[1] for folder in left}
    choices([each.request for each in tuned if each.request.folder.parents[1] not in without])
    return [f"{folder} ({state})" for folder, state in left.items()]
