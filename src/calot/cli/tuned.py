"""`calot compare --tuned`: sweeps in place of runs, each at the setting that its seeds chose on val."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from calot.cli.tables import Options, Runs, table_of

if TYPE_CHECKING:
    from calot.statistics.tuned import TunedSide


def tuned_sides(
    sweeps: Sequence[Path], *, split: str, options: Options
) -> tuple[dict[str, Runs], list[Path], list[TunedSide]]:
    """For each sweep of an experiment, a side of the runs that its seeds chose on val; all these; how they chose.

    A sweep is the folder that `calot train --sweep` names after its experiment: `OUT/EXPERIMENT/SETTING/sSEED`.
    Raises CalotError where a folder is not a sweep, or the sweeps differ in how many settings they tried.
    """
    from calot.statistics.tuned import require_equal_tuning, tuned_side

    names = [sweep.name for sweep in sweeps]
    sides: dict[str, Runs] = {}
    chosen: list[Path] = []
    told = []
    for sweep in sweeps:
        runs, name = _runs_of(sweep), sweep.name if names.count(sweep.name) == 1 else str(sweep)
        tables = {
            setting: {seed: options.load(table_of(run, split="val")) for seed, run in by_seed.items()}
            for setting, by_seed in runs.items()
        }
        side = tuned_side(tables, name=name)
        told.append(side)
        own = [runs[setting][seed] for seed, setting in zip(side.seeds, side.chosen, strict=True)]
        sides[name] = Runs()
        for run in own:
            sides[name].add(run, split=split, options=options)
        chosen += own
    require_equal_tuning(told)
    return sides, chosen, told


def _runs_of(sweep: Path) -> dict[str, dict[int, Path]]:
    """A sweep's runs by setting, in the order in which they were asked for, and seed."""
    from calot.errors import CalotError
    from calot.reading import read_record
    from calot.statistics.sweep import FILE

    found = read_record(sweep / FILE, remedy=f"{sweep} is not a sweep: train one with calot train --sweep")
    try:
        settings = [str(item["setting"]) for item in found["settings"]]
    except (KeyError, TypeError) as error:
        raise CalotError(f"{sweep / FILE}: not a sweep that calot wrote ({error!r})") from error
    runs: dict[str, dict[int, Path]] = {}
    for setting in settings:
        folders = sorted((sweep / setting).glob("s*"))
        runs[setting] = {int(f.name[1:]): f for f in folders if f.name[1:].isdigit() and f.is_dir()}
        if not runs[setting]:
            raise CalotError(f"{sweep / setting}: no runs here, and {FILE} names them; train again with --resume")
    return runs
