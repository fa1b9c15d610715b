"""`calot experiments`: list them, show one in full, show how two differ."""

from __future__ import annotations

import ast
import json as json_module
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from calot.cli.completing import experiment_words
from calot.cli.next_step import say_next
from calot.cli.train import Scale

app = typer.Typer(no_args_is_help=True)

_FOLDER = Path(__file__).parents[1] / "experiments"

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="key=value changes, such as loss.gamma=1", autocompletion=experiment_words),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON only.")]


@app.command("list")
def list_experiments(json: Json = False) -> None:
    """List the shipped experiments, one line each: name, baseline, question (--json: difference)."""
    if json:
        print(json_module.dumps(_differences(), indent=1, default=str))
        return
    folders = (_FOLDER, _FOLDER.with_name("pretrainings"))
    headings = [_heading(path) for folder in folders for path in sorted(folder.glob("[a-z]*.py"))]
    names, baselines = (max(len(h[i]) for h in headings) for i in (0, 1))
    room = shutil.get_terminal_size().columns - names - baselines - 4 if sys.stdout.isatty() else sys.maxsize
    for name, baseline, question in headings:
        shown = question if len(question) <= room else f"{question[: max(0, room - 1)]}…"
        print(f"{name:<{names}}  {baseline:<{baselines}}  {shown}".rstrip())
    say_next("experiments", "show", "e02_frozen_probe", "--params")


def _heading(path: Path) -> tuple[str, str, str]:
    """An experiment's name, its baseline and its question, from the text of its file: nothing is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    keywords = [k for call in ast.walk(tree) if isinstance(call, ast.Call) for k in call.keywords]
    named = [k.value for k in keywords if k.arg == "baseline"]
    baseline = next((str(v.value) for v in named if isinstance(v, ast.Constant)), "-")
    return path.stem, baseline, (ast.get_docstring(tree) or "").splitlines()[0]


def _differences() -> list[dict[str, Any]]:
    from calot.experiments import find, names, pretraining_names

    rows: list[dict[str, Any]] = []
    for name in (*names(), *pretraining_names()):
        experiment = find(name).experiment
        base = experiment.baseline
        changes = experiment.difference(find(base).experiment) if base else []
        rows.append({"name": name, "baseline": base, "difference": [vars(d) for d in changes]})
    return rows


@app.command()
def show(
    experiment: Annotated[
        str, typer.Argument(help="A name, or a path to a .py file of your own.", autocompletion=experiment_words)
    ],
    overrides: Overrides = None,
    params: Annotated[bool, typer.Option(help="Count the parameters (no weights needed).")] = False,
    scale: Scale = "full",
    json: Json = False,
) -> None:
    """Show one experiment in full: every field, its documented result, its parameters."""
    from calot.config.difference import flatten
    from calot.config.json_form import to_json
    from calot.experiments import resolve

    resolved = resolve(experiment, overrides=overrides or [], scale=scale)
    value, header = resolved.experiment, resolved.found.header
    data: dict[str, Any] = {
        "name": value.name,
        "baseline": value.baseline,
        "scale": scale,
        "fingerprint": value.fingerprint(),
    }
    if params:
        from calot.run.build import parameter_counts

        data["parameters"] = parameter_counts(value)
    if json:
        print(json_module.dumps(data | {"experiment": to_json(value), "header": header}, indent=1))
        return
    print(header + "\n")
    for key, leaf in flatten(value).items():
        print(f"{key} = {leaf}")
    if params:
        counts = data["parameters"]
        print(f"\nparameters: {counts['total']:,} in total, {counts['trainable']:,} trainable")
        for group, count in counts["groups"].items():
            print(f"  {group}: {count:,}")
    print(f"\nfingerprint {data['fingerprint'][:16]} at scale {scale}")
    changes = overrides or []
    if value.objective.reads_labels:
        say_next("train", experiment, *changes, "--data", "ROOT", "--scale", "tiny")
    else:
        say_next("pretrain", "ROOT", experiment, *changes, "--out", "DIR", "--scale", "tiny")


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="An experiment, by name or path.", autocompletion=experiment_words)],
    b: Annotated[str, typer.Argument(help="Another.", autocompletion=experiment_words)],
    json: Json = False,
) -> None:
    """Show every field in which B's treatment differs from A's."""
    from calot.experiments import find

    changes = find(b).experiment.difference(find(a).experiment)
    if json:
        print(json_module.dumps([vars(d) for d in changes], indent=1, default=str))
        return
    for d in changes:
        print(f"{d.field}: {d.baseline} -> {d.value}")
    if not changes:
        print(f"{a} and {b} are the same treatment.")


@app.command()
def costs(
    names: Annotated[list[str] | None, typer.Argument(help="Experiments; default: every shipped one.")] = None,
    data: Annotated[Path, typer.Option(help="A data set; a few of its clips are read.")] = Path("phantom"),
    scale: Annotated[str, typer.Option(help="Scale of what is timed; parameters are always full scale.")] = "tiny",
    json: Json = False,
) -> None:
    """Parameters at full scale, and what a clip costs here beside the baseline, as a Markdown table."""
    from calot.experiments import names as every
    from calot.progress import Ui
    from calot.run.costs import costs as measured

    found = measured(names or every(), data=data, scale=scale, ui=Ui())
    if json:
        print(json_module.dumps([vars(cost) for cost in found], indent=1))
        return
    print(
        f"| experiment | baseline | parameters, M | trained, M | forward, ms per clip ({scale}) | step, ms per clip |"
    )
    print("|---|---|---|---|---|---|")
    for c in found:
        forward, step = (
            f"{own:.1f}" if other is None else f"{own:.1f} ({own / other:.2f} x)"
            for own, other in ((c.forward_ms, c.baseline_forward_ms), (c.step_ms, c.baseline_step_ms))
        )
        millions = f"{c.parameters / 1e6:.1f} | {c.trainable / 1e6:.2f}"
        print(f"| {c.name} | {c.baseline or '-'} | {millions} | {forward} | {step} |")
    say_next("experiments", "show", found[0].name, "--params")
