"""`calot report`: one offline page for a run, or for every run below a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calot.errors import CalotError

if TYPE_CHECKING:
    from calot.progress import Ui
    from calot.report.paper.files import WrittenPaper
    from calot.report.study.page import WrittenStudy

_FEW = 4


def report(
    folder: Annotated[Path, typer.Argument(help="A run, or a folder that holds runs: these are then compared.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
    study: Annotated[bool, typer.Option("--study", help="The document of a study: study.html and study.md.")] = False,
    paper: Annotated[bool, typer.Option("--paper", help="Tables, figures and checklists for a paper, into --out.")] = (
        False
    ),
    out: Annotated[Path | None, typer.Option(help="The folder of --paper.")] = None,
) -> None:
    """Write report.html: the verdict first, then everything it rests on, in one offline file."""
    from json import dumps

    if study or paper:
        _of_study(folder, study=study, paper=paper, out=out, json=json)
        return
    if out is not None:
        raise CalotError(f"--out {out}: report.html lies with its runs; --out is the folder of --paper")
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


def _of_study(folder: Path, *, study: bool, paper: bool, out: Path | None, json: bool) -> None:
    """The document of a study, or what a paper needs."""
    from json import dumps

    from calot.progress import Ui

    if study and paper:
        raise CalotError("--study and --paper: give one of them")
    if paper and out is None:
        raise CalotError(f"calot report {folder} --paper: give the folder for its files, such as --out paper")
    if study:
        found = write_document(folder, ui=Ui())
        files, said = [found.html, found.markdown], found.headline
        more = {"missing": list(found.missing)}
    else:
        assert out is not None
        made = write_paper_files(folder, out=out, ui=Ui())
        files, said, more = list(made.files), made.said, {"unfilled": list(made.unfilled)}
    if json:
        print(dumps({"files": [str(path) for path in files], "said": said, **more}, indent=1))
        return
    print(said)
    for name, items in more.items():
        print(f"{name.capitalize()}: {', '.join(items)}" if items else f"{name.capitalize()}: none")
    print(f"Wrote {', '.join(str(path) for path in files[:_FEW])}{' ...' if len(files) > _FEW else ''}")
    print(f"Open {files[0]} in a browser." if study else f"All files: {out}")


def write_document(folder: Path, *, ui: Ui) -> WrittenStudy:
    """study.html and study.md of a study's folder, with progress over its comparisons."""
    from calot.report.study.page import write_study

    with ui.task("comparisons of the study") as advance:
        return write_study(folder, on_pair=advance)


def write_paper_files(folder: Path, *, out: Path, ui: Ui) -> WrittenPaper:
    """The files of `--paper`, with progress over comparisons."""
    from calot.report.paper.files import write_paper

    with ui.task("comparisons for the paper") as advance:
        return write_paper(folder, out=out, on_pair=advance)


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
