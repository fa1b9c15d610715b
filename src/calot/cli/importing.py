"""`calot import`: a checkpoint where nothing else is named, or `predictions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from calot.cli.importing_predictions import predictions
from calot.cli.next_step import say_next

_CHECKPOINT = "checkpoint"


class _CheckpointFirst(TyperGroup):
    """`calot import FILE RUN` imports a checkpoint: its command need not be named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_CHECKPOINT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_CheckpointFirst, no_args_is_help=True)
app.command("predictions")(predictions)


@app.command(_CHECKPOINT)
def import_(
    file: Annotated[Path, typer.Argument(metavar="CHECKPOINT.pt", help="A state dict as torch.save wrote it.")],
    run: Annotated[Path, typer.Argument(help="The run's folder to make.")],
    changes: Annotated[list[str] | None, typer.Argument(help="key=value changes, such as protocol=all-frames")] = None,
    experiment: Annotated[str | None, typer.Option(help="What it was trained as; default: the nearest one.")] = None,
    data: Annotated[Path | None, typer.Option(help="The data set it will be scored on; may come later.")] = None,
    scale: Annotated[str, typer.Option(help="full, or tiny for the embedded size.")] = "full",
    seed: Annotated[int, typer.Option(help="The seed it was trained with; the study's was 42.")] = 42,
    rename: Annotated[list[str] | None, typer.Option(help="OLD=NEW: replace a prefix of names. Repeatable.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what RUN holds.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print import.json only.")] = False,
) -> None:
    """Turn a checkpoint trained elsewhere, such as the study's own, into a run, to score it under either protocol."""
    from calot.errors import CalotError
    from calot.importing.checkpoint import ImportRequest, import_checkpoint, summary_lines
    from calot.progress import Ui

    pairs = []
    for text in rename or ():
        old, sign, new = text.partition("=")
        if not sign or not old:
            raise CalotError(f"--rename {text}: expected OLD=NEW, such as mlp_head.=head.")
        pairs.append((old, new))
    asked = ImportRequest(
        path=file,
        folder=run,
        experiment=experiment,
        scale=scale,
        changes=changes or (),
        data=data,
        seed=seed,
        rename=pairs,
        overwrite=overwrite,
    )
    record = import_checkpoint(asked, ui=Ui())
    if json:
        import json as json_module

        print(json_module.dumps(record, indent=2))
        return
    print("\n".join(summary_lines(record)))
    other = "all-frames" if record["assumed"]["protocol"] == "keyframes" else "keyframes"
    print(f"for the other protocol import it again into another folder with protocol={other}")
    say_next("evaluate", run, "--split", "val", *([] if data else ["--data", "ROOT"]))
