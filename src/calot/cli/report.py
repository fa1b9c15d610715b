"""`calot report`: one offline page for a run, or for every run below a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from calot.progress import Ui
    from calot.report.study.page import WrittenStudy


def report(
    folder: Annotated[Path, typer.Argument(help="A run, or a folder that holds runs: these are then compared.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
    study: Annotated[bool, typer.Option("--study", help="The document of a study: study.html and study.md.")] = False,
) -> None:
    """Write report.html: the verdict first, then everything it rests on, in one offline file."""
    from json import dumps

    if study:
        _of_study(folder, json=json)
        return
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


def _of_study(folder: Path, *, json: bool) -> None:
    """The document of a study."""
    from json import dumps

    from calot.progress import Ui

    found = write_document(folder, ui=Ui())
    if json:
        files = [str(found.html), str(found.markdown)]
        print(dumps({"files": files, "said": found.headline, "missing": list(found.missing)}, indent=1))
        return
    print(found.headline)
    print(f"Missing: {', '.join(found.missing)}" if found.missing else "No run that was asked for is missing.")
    print(f"Wrote {found.html} and {found.markdown}\nOpen {found.html} in a browser.")


def write_document(folder: Path, *, ui: Ui) -> WrittenStudy:
    """study.html and study.md of a study's folder, with progress over its comparisons."""
    from calot.report.study.page import write_study

    with ui.task("comparisons of the study") as advance:
        return write_study(folder, on_pair=advance)


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
