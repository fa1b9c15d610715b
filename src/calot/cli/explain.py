"""`calot explain`: what a run sees, criterion by criterion and clip by clip, in parts that can be asked for alone."""

from __future__ import annotations

import json as jsonlib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calot.cli.next_step import say_next
from calot.cli.train import Results, Trust

if TYPE_CHECKING:
    from calot.analysis.explaining.part import ExplainPart, Subject
    from calot.progress import Ui


def explain(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    split: Annotated[
        str, typer.Option(help="val, test or train. Every opening of test is counted and printed.")
    ] = "val",
    clips: Annotated[int, typer.Option(min=1, help="Clips to look into per group, evenly over videos.")] = 8,
    clip: Annotated[list[str] | None, typer.Option(help="A clip by its id, such as 160_36025; repeatable.")] = None,
    parts: Annotated[str | None, typer.Option(help="Only these, separated by commas; the others' files stay.")] = None,
    data: Annotated[Path | None, typer.Option(help="The data folder, if it moved since training.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder; by default RUN/analysis/explain_SPLIT.")] = None,
    results: Results = Path("results"),
    json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    trust: Trust = False,
) -> None:
    """Which criteria a run detects, where its pooling looks, what its decoder draws, and who rates oddly: tables,
    pictures and one page."""
    from calot.cli.train import trust_code
    from calot.destination import require_folder
    from calot.progress import Ui
    from calot.report.explaining.page import read_parts, write_explain_page
    from calot.report.explaining.sections import PARTS
    from calot.run.signals import stop_on_signal

    ui, wanted = Ui(), _parts_named(parts)
    trust_code(trust, run)
    folder = out or run / "analysis" / f"explain_{split}"
    if out is not None:
        require_folder(out, records=["explain.html", *(f"{part}.json" for part in PARTS)])
    with stop_on_signal(f"{run}: stopped; parts that are done stay. Name the others with --parts."):
        _measure(run, wanted, split=split, clips=clips, asked=clip or [], data=data, results=results, out=folder, ui=ui)
    page, shown = write_explain_page(folder), read_parts(folder)
    if json:
        found = {one.section.name: dict(one.found.facts) for one in shown}
        print(jsonlib.dumps({"folder": str(folder), "subject": shown[-1].found.subject, "parts": found}, indent=1))
        return
    _print(shown, wanted=wanted)
    print(f"\nTables and page: {folder}\nOpen {page} in a browser.")
    say_next("report", run)


def _parts_named(names: str | None) -> list[str]:
    """The parts asked for, in the order of the page."""
    from calot.errors import CalotError, nearest_name
    from calot.report.explaining.sections import PARTS

    if names is None:
        return list(PARTS)
    asked = [name.strip() for name in names.split(",") if name.strip()]
    for name in asked:
        if name not in PARTS:
            raise CalotError(f"--parts {name}: not a part.{nearest_name(name, among=PARTS)}")
    if not asked:
        raise CalotError(f"--parts {names!r} names none. Available: {', '.join(PARTS)}.")
    return [name for name in PARTS if name in asked]


def part_named(name: str) -> ExplainPart:
    """The part behind one of `PARTS`."""
    from calot.analysis.explaining.part import ExplainPart

    found = import_module(f"calot.analysis.explaining.{name}").PART
    assert isinstance(found, ExplainPart)
    return found


def _measure(
    run: Path,
    wanted: list[str],
    *,
    split: str,
    clips: int,
    asked: list[str],
    data: Path | None,
    results: Path,
    out: Path,
    ui: Ui,
) -> None:
    """Ask each part, and write its files as soon as it has answered."""
    from calot.cli.explain_subject import ExplainedRun
    from calot.cli.openings import counting_test
    from calot.run import folder as run_folder

    root = run_folder.data_root(run, named=data)
    opened = ExplainedRun.of(run, data=root, ui=ui)

    def on_open(name: str) -> None:
        counting_test(run, split=name, data=root, results=results, ui=ui)(opened.data.manifest.hash)

    subject = opened.subject(split, clips=clips, asked=asked, on_open=on_open)
    _remove_others(out, subject=subject, ui=ui, own=out.resolve().is_relative_to(run.resolve()))
    for name in wanted:
        _answer(name, subject=subject, out=out)


def _answer(name: str, *, subject: Subject, out: Path) -> None:
    from dataclasses import replace

    found = part_named(name).measure(subject)
    replace(found, subject=dict(subject.facts)).write(out, name=name)


def _remove_others(folder: Path, *, subject: Subject, ui: Ui, own: bool) -> None:
    """Take away what an earlier call found of another state of this run, another split or calot: one page shows one
    run. Outside the run's folder (`own`), raises CalotError for a file that calot did not write, and for what was found
    of another run."""
    from calot.destination import written_by_calot
    from calot.errors import CalotError
    from calot.report.explaining.sections import PARTS
    from calot.statistics.findings import Findings, remove_findings

    for name in PARTS:
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        if not own and not written_by_calot(path):
            raise CalotError(f"{path}: calot did not write it, or it is damaged; move it, or give another --out")
        try:
            about = Findings.read(folder, name=name).subject
        except CalotError:
            about = {}
        if any(about.get(key) != subject.facts[key] for key in ("calot", "run", "split")):
            theirs, mine = about.get("run") or {}, subject.facts["run"]
            if not own and theirs and any(theirs.get(key) != mine[key] for key in ("name", "seed", "fingerprint")):
                other = f"{theirs.get('name')} seed {theirs.get('seed')}"
                raise CalotError(f"{folder}: holds {name} of another run, {other}; give another --out")
            ui.say(f"{folder}: {name} was of another run, split or calot, and is taken away")
            remove_findings(folder, name=name)


def _print(shown: list[Any], *, wanted: list[str]) -> None:
    """What each part that was asked for found, in the words of the page."""
    about = shown[-1].found.subject
    print(f"{about['run']['name']} seed {about['run']['seed']}, {about['split']}: {about['of']} clips")
    if about["run"]["synthetic"]:
        print("The data is synthetic: nothing here says anything of real operations.")
    for one in shown:
        if one.section.name in wanted:
            if one.view.headline:
                print(f"\n{one.view.headline}")
            for reason in one.view.reasons:
                print(f"  {reason.lead} {reason.text}")
