"""`calot data baselines`: what a model must beat on a data set before its score says anything."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calot.cli.next_step import report_of, say_next

if TYPE_CHECKING:
    from calot.experiment import Experiment
    from calot.statistics.trivial import TrivialTables

_LIKE = "e02_frozen_probe"  # whose frames are read where no run says


def baselines(
    root: Annotated[Path, typer.Argument(help="A data set's folder, of any kind that calot reads (docs/data.md).")],
    run: Annotated[
        list[Path] | None, typer.Option(help="Put them into this run, for its page and metrics. Repeatable.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="keyframes or all-frames; a run has its own.")] = "keyframes",
    scale: Annotated[str, typer.Option(help="full, or tiny for the embedded size; a run has its own.")] = "full",
    cache: Annotated[Path | None, typer.Option(help="Where decoded frames go; default ROOT/.calot.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Time in the operation, label prior, colour histogram and 8 x 8 thumbnail, fitted on train and scored on val."""
    from calot.cli.printed_trivial import print_baselines
    from calot.progress import Ui
    from calot.run.baselines import add_baselines, score_baselines
    from calot.run.data import OpenData
    from calot.run.experiment_file import read_experiment
    from calot.run.signals import stop_on_signal

    ui, answer = Ui(), dict[str, Any]()
    with stop_on_signal(f"{root}: stopped; what is decoded stays. Run it again to continue."):
        if not run:
            data = OpenData.of(root, experiment=_plain(protocol, scale=scale, cache=cache), ui=ui)
            made = score_baselines(data, split="val", ui=ui)
            answer = _facts(made)
        for folder in run or ():
            experiment = _cached(read_experiment(folder)[0], cache=cache)
            splits = add_baselines(folder, data=OpenData.of(root, experiment=experiment, ui=ui), ui=ui)
            answer[str(folder)] = splits
    if json:
        print(json_module.dumps(answer, indent=2, allow_nan=False))
    elif run:
        for name, splits in answer.items():
            print(f"{name}: trivial baselines of {' and '.join(splits)}")
        say_next(*report_of(run))
    else:
        print_baselines(made)
        say_next("train", _LIKE, "--data", root, *(() if scale == "full" else ("--scale", scale)))


def _plain(protocol: str, *, scale: str, cache: Path | None) -> Experiment:
    from dataclasses import replace

    from calot.data.clips import protocol_named
    from calot.experiments import resolve

    chosen = protocol_named(protocol)
    found = resolve(_LIKE, overrides=[], scale=scale).experiment
    return _cached(replace(found, protocol=chosen), cache=cache)


def _cached(experiment: Experiment, *, cache: Path | None) -> Experiment:
    from dataclasses import replace

    return experiment if cache is None else replace(experiment, compute=replace(experiment.compute, cache=str(cache)))


def _facts(made: TrivialTables) -> dict[str, Any]:
    from dataclasses import asdict

    facts = {name: value for name, value in vars(made).items() if name != "baselines"}
    each = [
        {
            "name": one.name,
            "title": one.title,
            "settings": one.settings,
            "map": asdict(one.intervals.map),
            "ap": {name: asdict(item) for name, item in one.intervals.ap.items()},
        }
        for one in made.baselines
    ]
    return {**facts, "baselines": each}
