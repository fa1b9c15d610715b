"""`calot import predictions`."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calot.cli.next_step import say_next

if TYPE_CHECKING:
    from calot.importing.predictions import ImportedPredictions


def predictions(
    file: Annotated[Path, typer.Argument(help="Another group's predictions, as their code wrote them.")],
    data: Annotated[Path, typer.Option(help="The data set that they are of.")],
    layout: Annotated[
        str | None, typer.Option(help="swincvs, perceva, lgcvs, sages or plain; found by looking where left out.")
    ] = None,
    split: Annotated[str, typer.Option(help="The split that they are of.")] = "test",
    protocol: Annotated[str, typer.Option(help="keyframes or all-frames.")] = "keyframes",
    entry: Annotated[str | None, typer.Option(help="Which part, where a file has several: an epoch, a split.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write calot's own table here (.parquet).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Reproduce another group's mAP from their own file, then say what a named protocol changes: frames, labels,
    rounding, selection, interval."""
    from calot.data.clips import protocol_named
    from calot.destination import require_free_file
    from calot.errors import CalotError
    from calot.importing.predictions import import_predictions

    if out is not None and out.suffix.lower() != ".parquet":
        raise CalotError(f"--out {out}: calot's tables are .parquet; give such a name")
    if out is not None:
        require_free_file(out, inputs=[file])
    named = protocol_named(protocol)
    found = import_predictions(file, data=data, split=split, protocol=named, layout=layout, entry=entry)
    if out is not None:
        found.table.write(out)
    if json:
        print(jsonlib.dumps(found.to_dict() | {"out": None if out is None else str(out)}, indent=1, allow_nan=False))
        return
    _print(found)
    again = (
        "import",
        "predictions",
        file,
        "--data",
        data,
        "--split",
        split,
        "--out",
        file.with_suffix(".calot.parquet"),
    )
    say_next(*(again if out is None else ("metrics", out, "--by-video")))


def _print(found: ImportedPredictions) -> None:
    from calot.cli.printed import interval_text, points, table_of_columns
    from calot.criteria import CRITERIA, label
    from calot.terminal import print_table

    table = found.table
    print(f"{found.layout} ({found.source}){f', {found.entry}' if found.entry else ''}")
    print(f"{table.dataset} {table.split}, protocol {table.protocol}, manifest {table.manifest_hash[:12]}")
    printed = (
        "the file states no mAP of its own" if found.printed is None else f"the file states {points(found.printed)}"
    )
    print(
        f"mAP as published: {points(found.published.map)}; {printed}" if found.published else "the file has no labels"
    )
    shown = table_of_columns("step", "frames", "mAP", *(label(c).split()[0] for c in CRITERIA))
    for step in (*([found.published] if found.published else []), *found.steps):
        shown.add_row(step.name, f"{step.frames:,}", points(step.map), *(points(step.ap[c]) for c in CRITERIA))
    shown.add_row(
        "95 % over videos",
        "",
        interval_text(found.interval["map"]),
        *(interval_text(found.interval[c]) for c in CRITERIA),
    )
    print_table(shown)
    for step in found.steps:
        print(f"{step.name}: {step.said}")
    print(f"selection: {found.selection}")
    for note in found.notes:
        print(f"Note: {note}")
