"""`calot report`: one offline page for a run, or for every run below a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="A run, or a folder that holds runs: these are then compared.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Write report.html: the verdict first, then everything it rests on, in one offline file."""
    from json import dumps

    from calot.cli.printed import print_runs
    from calot.provenance.pretraining_facts import without_scores
    from calot.report.page import write_report
    from calot.report.run_folder import find_runs

    runs = find_runs(folder)
    for run in runs if not without_scores(folder) else ():
        _look_at_frames(run)
    path = write_report(folder)
    rows = [row for row in map(_scored, runs if not without_scores(folder) else ()) if row is not None]
    if json:
        text = dumps({"report": str(path), "runs": [str(run) for run in runs], "scores": rows}, allow_nan=False)
        print(text)
        return
    print_runs(rows)
    print(f"Report of {len(runs)} run{'' if len(runs) == 1 else 's'}: {path}")
    print(f"Open {path} in a browser.")


def _look_at_frames(folder: Path) -> None:
    """Brightness and sharpness of the scored frames, kept beside their data set, for the subgroups of the page."""
    from calot.analysis.appearance import seen_frames
    from calot.cli.tables import data_of
    from calot.progress import Ui
    from calot.report.run_folder import read_run

    run = read_run(folder)
    for split, table in run.predictions.items() if run.has_result else ():
        seen_frames(table, root=data_of(folder / "predictions" / f"{split}.parquet"), ui=Ui())


def _scored(folder: Path) -> dict[str, Any] | None:
    """A run's val mAP with its interval and beside trivial baselines where it has them, or the check that it failed;
    None where nothing was scored yet."""
    from calot.report.run_folder import read_run
    from calot.statistics.summary import summarise

    run = read_run(folder)
    if not run.finished:
        return None
    row: dict[str, Any] = {
        "run": str(folder),
        "experiment": run.name,
        "seed": run.seed,
        "treatment": run.treatment.stamp,
        "combined": None if run.combination is None else str(run.combination),
        "passes": 1 if run.combination is None else run.combination.passes,
    }
    if run.treatment.invalid:
        return row
    total = summarise(run.predictions["val"]).to_dict()["map"]
    row |= {key: total.get(key) for key in ("value", "low", "high", "reason", "chance")}
    beside = run.beside_trivial["val"]
    if not beside.baselines:
        return row
    said = beside.verdict(f"{run.label} seed {run.seed}")
    best = None if beside.best is None else beside.best.name
    return row | {"trivial_baselines": {"best": best, "standing": beside.standing, "verdict": said}}
