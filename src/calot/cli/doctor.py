"""`calot doctor`: what is installed, what is missing and how to get it, what would run."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calot.cli.next_step import say_next

if TYPE_CHECKING:
    from calot.doctor.diagnosis import Diagnosis

_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}


def doctor(
    data: Annotated[Path | None, typer.Option(help="Also look at a data set's folder.")] = None,
    weights: Annotated[str | None, typer.Option(help="A hub id, folder or .pt that must be here.")] = None,
    results: Annotated[Path, typer.Option(help="Where runs would go.")] = Path("results"),
    online: Annotated[bool, typer.Option("--online", help="Also try whether the hub answers.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Report what this machine has, what is missing with its remedy, and what would run. Exit code 1 on a problem."""
    from calot.doctor.diagnosis import diagnose

    found = diagnose(data=data, weights=weights, results=results, online=online)
    if json:
        print(json_module.dumps(found.to_dict(), indent=1, allow_nan=False))
    else:
        _show(found, data=data)
    if not found.ok:
        raise typer.Exit(1)


def _show(found: Diagnosis, *, data: Path | None) -> None:
    from rich.markup import escape
    from rich.table import Table

    from calot.terminal import console, print_table

    table = Table("group", "name", "state", box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column("found", overflow="fold")
    group = ""
    for check in found.checks:
        colour = _COLOURS[check.state]
        remedy = f"\n{escape(check.remedy)}" if check.state == "note" and check.remedy else ""
        table.add_row(
            f"[bold]{check.group}[/]" if check.group != group else "",
            check.name,
            f"[{colour}]{check.state:7}[/]",
            escape(check.found) + remedy,
        )
        group = check.group
    print_table(table, markup=True)
    for remedy, names in found.findings.items():
        console().print(f"\n{', '.join(names)}:\n  {remedy}", soft_wrap=True, markup=False, highlight=False)
    if found.ok:
        say_next("train", "e02_frozen_probe", "--data", data or "ROOT", "--scale", "tiny")
    else:
        print("\nFix these, then run `calot doctor` again.")
