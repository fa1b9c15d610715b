"""`calot experiments`: what there is, what one is in full, how two differ."""

from __future__ import annotations

import json as json_module
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True)

Overrides = Annotated[list[str] | None, typer.Argument(help="key=value changes, such as loss.gamma=1")]
Scale = Annotated[str, typer.Option(help="full, or tiny for the embedded size.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON only.")]


@app.command("list")
def list_experiments(json: Json = False) -> None:
    """List the shipped experiments with the difference each declares from its baseline."""
    from calot.experiments import find, names

    rows: list[dict[str, Any]] = []
    for name in names():
        found = find(name)
        base = found.experiment.baseline
        changes = found.experiment.difference(find(base).experiment) if base else []
        rows.append({"name": name, "baseline": base, "difference": [vars(d) for d in changes], "header": found.header})
    if json:
        print(
            json_module.dumps(
                [{k: r[k] for k in ("name", "baseline", "difference")} for r in rows], indent=1, default=str
            )
        )
        return
    from rich.table import Table

    from calot.terminal import print_table

    table = Table("experiment", "baseline", "difference", "question", box=None, padding=(0, 2, 0, 0))
    for r in rows:
        differences = "\n".join(f"{d['field']} = {d['value']}" for d in r["difference"])
        table.add_row(r["name"], r["baseline"] or "", differences, r["header"].splitlines()[0])
    print_table(table)
    print("\nnext: calot experiments show e02_frozen_probe --params")


@app.command()
def show(
    experiment: Annotated[str, typer.Argument(help="A name, or a path to a .py file of your own.")],
    overrides: Overrides = None,
    params: Annotated[bool, typer.Option(help="Count the parameters (no weights needed).")] = False,
    scale: Scale = "full",
    json: Json = False,
) -> None:
    """Show one experiment in full: every field, its documented result, its parameters."""
    from calot.config.difference import flatten
    from calot.config.json_form import to_json
    from calot.config.overrides import apply_overrides
    from calot.experiment import scaled
    from calot.experiments import find

    found = find(experiment)
    value = apply_overrides(scaled(found.experiment, scale), overrides or [])
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
        print(json_module.dumps(data | {"experiment": to_json(value), "header": found.header}, indent=1))
        return
    print(found.header + "\n")
    for key, leaf in flatten(value).items():
        print(f"{key} = {leaf}")
    if params:
        counts = data["parameters"]
        print(f"\nparameters: {counts['total']:,} in all, {counts['trainable']:,} trainable")
        for group, count in counts["groups"].items():
            print(f"  {group}: {count:,}")
    print(f"\nfingerprint {data['fingerprint'][:16]} at scale {scale}")
    print(f"next: calot train {experiment} --data ROOT --scale tiny")


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="An experiment, by name or path.")],
    b: Annotated[str, typer.Argument(help="Another.")],
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
