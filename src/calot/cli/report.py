"""`calot report`: one offline page for a run, or for every run below a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="A run, or a folder that holds runs: these are then compared.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Write report.html: the verdict first, then everything it rests on, in one offline file."""
    from json import dumps

    from calot.report.page import write_report
    from calot.report.run_folder import find_runs

    path = write_report(folder)
    runs = find_runs(folder)
    if json:
        typer.echo(dumps({"report": str(path), "runs": [str(run) for run in runs]}))
        return
    typer.echo(f"Report of {len(runs)} run{'' if len(runs) == 1 else 's'}: {path}")
    typer.echo(f"Next: open {path} in a browser, or compare with other runs: calot compare RUN RUN ... --json")
