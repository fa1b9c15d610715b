"""`calot distill`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from calot.cli.train import Results, Trust

#: What `--student tiny` is: the small encoder that comes with calot, all of it trained.
_TINY = ("e00_finetune", "tiny")


def distill(
    what: Annotated[
        list[str], typer.Argument(metavar="RUN... [key=value...]", help="Teachers; changes of the student.")
    ],
    student: Annotated[str, typer.Option(help="tiny (e00_finetune at tiny scale), an experiment, or a .py file.")],
    data: Annotated[Path, typer.Option(help="The data set's folder.")],
    out: Annotated[Path, typer.Option(help="The student's run folder; soft targets go to OUT_targets.")],
    raters: Annotated[float, typer.Option(min=0, max=1, help="The raters' share of a target.")] = 0.5,
    scale: Annotated[str, typer.Option(help="Of the student: full or tiny.")] = "full",
    seed: Annotated[int, typer.Option(help="The student's seed.")] = 42,
    results: Results = Path("results"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue the student.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the student's run.")] = False,
    receipt: Annotated[bool, typer.Option("--receipt/--no-receipt", help="Prove the treatment first.")] = True,
    trust: Trust = False,
) -> None:
    """Teach a smaller model: runs' probabilities of the training clips, mixed with the raters' mean, are its labels."""
    from calot.cli.train import requests, train_all, trust_code
    from calot.config.overrides import is_override
    from calot.deploy.distill import teach
    from calot.errors import CalotError
    from calot.experiments import resolve
    from calot.progress import Ui
    from calot.run.signals import stop_on_signal

    runs, changes = [Path(w) for w in what if not is_override(w)], [w for w in what if is_override(w)]
    if not runs:
        raise CalotError("name at least one run that teaches: calot distill RUN --student tiny --data ROOT --out DIR")
    if own := next((c for c in changes if c.startswith("label")), None):
        raise CalotError(f"{own}: the student's labels are what is taught; leave it out, or use --raters")
    if resume and overwrite:
        raise CalotError("--resume continues a run and --overwrite starts it again: give one of them")
    if own_place := next((run for run in runs if run.resolve() == out.resolve()), None):
        raise CalotError(f"--out {out}: is {own_place}, which teaches; the student needs a folder of its own")
    trust_code(trust, *runs)
    name, scale = _TINY if student == "tiny" else (student, scale)
    plain = resolve(name, overrides=changes, scale=scale).experiment
    with stop_on_signal(f"{out}: stopped while teaching; nothing was kept. Run it again."):
        path = teach(
            runs, data=data, protocol=plain.protocol.name, folder=out.with_name(f"{out.name}_targets"), ui=Ui()
        )
    words = [name, *changes, f"label=TaughtLabel(targets={str(path.absolute())!r}, raters={raters!r})"]
    asked = requests(words, data=data, out=out, results=results, scale=scale, seeds=str(seed))
    asked = [replace(one, resume=resume, overwrite=overwrite, receipt=receipt) for one in asked]
    train_all(asked, out=out, sweep=False, page=True)
