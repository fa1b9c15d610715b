"""`calot export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calot.cli.train import Trust


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    format: Annotated[str, typer.Option(help="hf (a hub folder), pt2 (torch.export) or onnx.")],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    data: Annotated[Path | None, typer.Option(help="The data folder, if it moved since training.")] = None,
    clips: Annotated[int, typer.Option(min=1, help="Validation clips that are held against the run.")] = 16,
    int8: Annotated[bool, typer.Option("--int8", help="Of onnx: a quantised file, too, and its cost in mAP.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what --out holds.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print export.json only.")] = False,
    trust: Trust = False,
) -> None:
    """Write a run for other programs, with adapters merged and normalisation inside, equal to the run within 1e-4."""
    from calot.cli.train import trust_code
    from calot.deploy.export import ExportRequest, export_run
    from calot.progress import Ui
    from calot.run.signals import stop_on_signal

    trust_code(trust, run)
    asked = ExportRequest(run=run, format=format, out=out, data=data, clips=clips, int8=int8, overwrite=overwrite)
    with stop_on_signal(f"{run}: stopped; nothing was kept. Run it again."):
        record = export_run(asked, ui=Ui())
    if json:
        import json as json_module

        print(json_module.dumps(record, indent=1))
        return
    print(
        f"{out}: {format} of {record['run']}, {len(record['files'])} files; largest difference of a logit from the run "
        f"{record['largest_difference']:.1e} on {record['clips']} clips of {record['videos']} videos"
    )
    if record["int8"] is not None:
        print(f"int8: {record['int8']['said']}")
    print(f"\nNext: read {out / 'README.md'}, the model card, before you pass it on")
