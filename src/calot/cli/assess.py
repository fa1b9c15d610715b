"""`calot assess` and `calot review`: a whole operation in, and the page on which a person looks through it."""

from __future__ import annotations

import json as jsonlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calot.cli.next_step import say_next
from calot.cli.train import Trust

if TYPE_CHECKING:
    from calot.statistics.assessment import Assessment


def assess(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    videos: Annotated[list[Path], typer.Argument(help="The recordings of one operation, in order.")],
    out: Annotated[Path, typer.Option(help="A new folder; the same command continues one that was begun.")],
    other: Annotated[
        list[Path] | None, typer.Option("--with", help="Another seed of the same experiment (repeatable).")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What outputs call the operation; by default a digest of its recordings.")
    ] = None,
    held: Annotated[float, typer.Option(help="Seconds that all three criteria must hold.")] = 5.0,
    every: Annotated[int, typer.Option(min=1, help="Seconds from one scored moment to the next.")] = 1,
    seamless: Annotated[bool, typer.Option("--seamless", help="The files follow each other without a gap.")] = False,
    abstain: Annotated[bool, typer.Option(help="Let the model abstain by prediction sets frozen on val.")] = True,
    unlinked: Annotated[
        bool, typer.Option("--unlinked", help="No file name in the page: it asks for the recordings when opened.")
    ] = False,
    coverage: Annotated[float, typer.Option(help="Coverage of these sets.")] = 0.9,
    json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    trust: Trust = False,
) -> None:
    """Criteria over a whole recorded operation, second by second: scores, faults, stills. Not a medical device."""
    from calot.deploy.assess import AssessRequest, assess_operation
    from calot.progress import Ui
    from calot.report.review_page import PAGE, write_review
    from calot.run.signals import stop_on_signal

    ui, start = Ui(), time.monotonic()
    request = AssessRequest(
        runs=(run, *(other or ())),
        recordings=videos,
        out=out,
        name=name,
        held=held,
        every=every,
        seamless=seamless,
        abstains=abstain,
        coverage=coverage,
        trust=trust,
    )
    with stop_on_signal(f"{out}: stopped. Run the same command again to continue.") as stopper:
        made = assess_operation(request, ui=ui, stopper=stopper)
    page = out / PAGE
    if not page.exists():
        write_review(out, recordings=None if unlinked else videos)
    spent = time.monotonic() - start
    ui.say(
        f"{made.facts['seconds']:.0f} s of recording in {spent:.0f} s: {made.facts['seconds'] / spent:.1f} x real time"
    )
    if json:
        print(jsonlib.dumps(made.facts | {"out": str(out)}, indent=1))
    else:
        _show(made, out=out)
        print(f"Open {page} in a browser.")
        say_next("review", out, *videos)
    if made.incomplete:
        raise typer.Exit(1)


def _show(made: Assessment, *, out: Path) -> None:
    from calot.criteria import label
    from calot.report.timelines import clock

    facts = made.facts
    print(f"{facts['name']}: {clock(facts['seconds'])}, {made.scores.height:,} moments scored")
    for fault in facts["faults"]:
        when = f"{clock(fault['start'])} to {clock(fault['end'])}"
        print(f"  file {fault['file']}, {when}: {fault['kind']}: {fault['note']}")
    for criterion, seconds in facts["achieved_seconds"].items():
        print(f"  {label(criterion)}: achieved for {seconds} s")
    held = facts["held"]
    print(f"  all three held first at {clock(held['start'])}" if held else f"  not held: {facts['held_why_not']}")
    print(f"{facts['notice']}\n{out}")


def review(
    folder: Annotated[Path, typer.Argument(help="A folder that calot assess finished.")],
    videos: Annotated[list[Path] | None, typer.Argument(help="The recordings, in the same order.")] = None,
    unlinked: Annotated[
        bool, typer.Option("--unlinked", help="No file name in the page: it asks for the recordings when opened.")
    ] = False,
    marks: Annotated[
        list[Path] | None, typer.Option(help="Marks of raters to show: a CSV that the page exported (repeatable).")
    ] = None,
) -> None:
    """Write the review page of an assessed operation again: recordings moved, or marks of others beside yours."""
    from calot.data.digests import file_digest
    from calot.errors import CalotError
    from calot.report.review_marks import read_marks
    from calot.report.review_page import write_review
    from calot.statistics.assessment import Assessment

    if bool(videos) == unlinked:
        raise CalotError(f"{folder}: give its recordings in order, or --unlinked for a page that asks for them")
    facts = Assessment.read(folder).facts
    name, assessed = str(facts["name"]), facts["plan"]["recordings"]
    for path, digest in zip(videos or (), assessed, strict=False):  # their number is checked with the page
        if file_digest(path) != digest:
            raise CalotError(
                f"{path}: is not the recording that was assessed, or not in its place. Give those, in order"
            )
    shown = [mark for path in marks or () for mark in read_marks(path, operation=name)]
    print(f"Open {write_review(folder, recordings=None if unlinked else videos, marks=shown)} in a browser.")
