"""`calot audit`: whether a run's files belong together and are what they were when the run was complete."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer


def audit(
    where: Annotated[Path, typer.Argument(help="A run's folder, or a folder with runs below it.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Read every file that a run's result rests on and hold it to the run's seal, digests and identity; exit code 1
    with each broken link by name."""
    from calot.errors import CalotError
    from calot.provenance.audit import audit_run
    from calot.report.run_folder import find_runs

    runs = find_runs(where)
    if not runs:
        raise CalotError(f"{where}: no run here: no folder at or below it has an experiment.json")
    found = [audit_run(run) for run in runs]
    if json:
        print(json_module.dumps([one.to_json() for one in found], indent=1))
    else:
        print("\n".join(one.text() for one in found))
    if any(one.broken for one in found):
        raise typer.Exit(1)
