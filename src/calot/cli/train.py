"""`calot train`, `evaluate` and `predict`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calot.cli.archive import EngineName, predict_archive, require_no_recording
from calot.cli.combine import Tta, TtaMean, enter_combined, mean_of
from calot.cli.completing import experiment_words, scale_words, service_words
from calot.cli.finishing import draw_clips, finish
from calot.cli.next_step import report_of, say_next
from calot.cli.sweep import combinations, say_choice, setting_name
from calot.wall import measured

if TYPE_CHECKING:
    from calot.processes import Processes
    from calot.run.request import Request

Data = Annotated[Path, typer.Option(help="A data set's folder, of any kind that calot reads (docs/data.md).")]
Trust = Annotated[bool, typer.Option("--trust", help="Run the components that a run from elsewhere brings along.")]
Experiments = Annotated[
    list[str],
    typer.Argument(
        help="Experiments by name or path to a .py, and key=value changes.", autocompletion=experiment_words
    ),
]
Scale = Annotated[str, typer.Option(help="full, or tiny for the embedded size.", autocompletion=scale_words)]
Log = Annotated[
    str | None,
    typer.Option(
        help="Also log each epoch: tensorboard, trackio, mlflow, wandb; with commas.", autocompletion=service_words
    ),
]
Results = Annotated[Path, typer.Option(help="Where runs go by default, and where the ledger lives.")]


def train(
    what: Experiments,
    data: Data,
    out: Annotated[Path | None, typer.Option(help="The run's folder (one run), or the folder of all runs.")] = None,
    scale: Scale = "full",
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds; one run each.")] = "42",
    sweep: Annotated[
        list[str] | None, typer.Option(help="key=value,value: a run per value; chosen on val. May be repeated.")
    ] = None,
    results: Results = Path("results"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start the run in --out again.")] = False,
    drop_unreadable: Annotated[
        bool, typer.Option("--drop-unreadable", help="Drop frames that cannot be read, counted and reported.")
    ] = False,
    receipt: Annotated[bool, typer.Option(help="Prove before training that the treatment takes effect.")] = True,
    share_receipt: Annotated[
        bool, typer.Option("--share-receipt", help="Take checks that no seed changes from another seed's receipt.")
    ] = False,
    page: Annotated[bool, typer.Option(help="Write each run's report.html; `calot report` does it later.")] = True,
    despite_receipt: Annotated[bool, typer.Option("--despite-receipt", help="Train even if a check failed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure a few steps; estimate the run's cost.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Plan for this machine's memory, then train by it.")] = False,
    plan_for: Annotated[str | None, typer.Option("--for", help="With --plan: another device; only print.")] = None,
    price_per_hour: Annotated[float | None, typer.Option(help="With --dry-run or --for: the machine's price.")] = None,
    json: Annotated[bool, typer.Option("--json", help="With --dry-run or --for: print JSON only.")] = False,
    log: Log = None,
    trust: Trust = False,
) -> None:
    """Train experiments; each run ends with validation predictions and a report."""
    from calot.cli.dry_run import show_dry_run
    from calot.cli.plan import planned, require_together, show_plans
    from calot.errors import CalotError
    from calot.machine_errors import TRAINING_ADDRESSES, require_address_space
    from calot.tracking.services import services_named

    require_address_space(TRAINING_ADDRESSES)
    if resume and overwrite:
        raise CalotError("--resume continues a run and --overwrite starts it again: give one of them")
    if resume and out is None:
        raise CalotError("--resume needs --out, the folder of the run to continue")
    services = services_named(log)
    words = [*what, *(["frames.drop_unreadable=True"] if drop_unreadable else [])]
    asked = requests(words, data=data, out=out, results=results, scale=scale, seeds=seeds, sweeps=sweep or ())
    require_together(plan=plan, plan_for=plan_for, dry_run=dry_run, price_per_hour=price_per_hour, json=json)
    if plan_for is not None:
        show_plans(asked, device=plan_for, price_per_hour=price_per_hour, json=json)
        return
    asked = planned(asked) if plan else asked
    if dry_run:
        flags = {"--out": out, "--scale": scale, "--seeds": seeds, "--results": results}
        given = [part for k, v in flags.items() if v not in (None, "full", "42", Path("results")) for part in (k, v)]
        given += [part for text in sweep or () for part in ("--sweep", text)] + ["--plan"] * plan
        show_dry_run(asked, price_per_hour=price_per_hour, json=json, again=("train", *words, "--data", data, *given))
        return
    trust_code(trust, *(r.folder for r in asked if resume))
    how: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "share_receipt": share_receipt, "log": services}
    how |= {"receipt": receipt, "despite_receipt": despite_receipt}
    asked = [replace(r, **how) for r in asked]
    train_all(asked, out=out, sweep=bool(sweep), page=page)


def log_flags(log: str | None) -> list[str]:
    """`--log` as a job of a sweep or study gets it. Raises CalotError like `--log` itself, before any job starts."""
    from calot.tracking.services import services_named

    return ["--log", ",".join(names)] if (names := services_named(log)) else []


def train_all(asked: list[Request], *, out: Path | None, sweep: bool, page: bool) -> None:
    """One run after the other, in this process or together with those that a launcher started."""
    from calot.provenance.receipt import Receipt
    from calot.run.device import join_processes

    processes = join_processes(asked[0].experiment.compute)
    with processes.ending_together():
        asked = [replace(r, folder=Path(processes.agreed(str(r.folder)))) for r in asked]
        train_each(asked, out=out, page=page, processes=processes)
        invalid = [str(r.folder) for r in asked if (made := Receipt.load(r.folder)) is not None and made.failed]
        processes.leave()
    if invalid:
        if processes.first:
            print(f"INVALID, see receipt.json: {', '.join(invalid)}")
        raise typer.Exit(1)
    if processes.first:
        say_next(*(("report", *say_choice(asked)[:1]) if sweep else _after_training(asked)))


def train_each(asked: list[Request], *, out: Path | None, page: bool, processes: Processes) -> None:
    """One run after the other; a signal ends the one under way after saving, and names how to continue."""
    from calot.pipeline import train_run
    from calot.progress import Silent, Ui
    from calot.run.signals import stop_on_signal

    ui = Ui() if processes.first else Silent()
    with stop_on_signal() as stopper:
        for request in asked:
            stopper.saying = f"{request.folder}: stopped. Continue with --resume --out {out or request.folder}."
            ui.say(f"{request.experiment.name} seed {request.seed} -> {request.folder}")
            with measured(request.folder) if processes.first else nullcontext():
                folder = train_run(request, ui=ui, stopper=stopper, processes=processes)
                processes.once(partial(finish, folder, ui=ui, results=request.results, page=page))


def _after_training(asked: list[Request]) -> tuple[object, ...]:
    """Compare what was trained, or show a single experiment. Test is opened last, not after a first run."""
    names = {request.experiment.name for request in asked}
    if len(names) > 1:
        return "compare", *(request.folder for request in asked)
    return report_of([request.folder for request in asked])


def trust_code(trust: bool, *folders: Path) -> None:
    """Run the user code stored in these runs, although it was never run here before."""
    from calot.run.experiment_file import trust_own_code

    for folder in folders if trust else ():
        if (folder / "experiment.json").exists():
            trust_own_code(folder)


def requests(
    what: list[str],
    *,
    data: Path,
    out: Path | None,
    results: Path,
    scale: str,
    seeds: str,
    sweeps: Sequence[str] = (),
) -> list[Request]:
    """The runs that a command line asks for: every experiment in every setting with every seed."""
    from calot.config.overrides import is_override
    from calot.errors import CalotError
    from calot.experiments import resolve
    from calot.run.request import Request

    overrides = [w for w in what if is_override(w)]
    experiments = [w for w in what if not is_override(w)]
    if not experiments:
        raise CalotError("name at least one experiment; `calot experiments list` shows them")
    settings = combinations(sweeps)
    if sweeps and out is None:
        raise CalotError("--sweep needs --out, the folder of all its runs")
    resolved = [
        (resolve(name, overrides=[*overrides, *changes], scale=scale), changes)
        for name in experiments
        for changes in settings
    ]
    triples = [(one, changes, seed) for one, changes in resolved for seed in _seeds(seeds)]
    asked = []
    for one, changes, seed in triples:
        experiment = one.experiment
        if out is None:
            folder = results / experiment.name / f"run_{time.strftime('%Y%m%d_%H%M%S')}_s{seed}"
        elif sweeps:
            folder = out / experiment.name / setting_name(changes) / f"s{seed}"
        else:
            folder = out if len(triples) == 1 else out / experiment.name / f"s{seed}"
        asked.append(
            Request(
                found=one.found,
                experiment=experiment,
                scale=scale,
                overrides=one.overrides,
                data=data,
                folder=folder,
                seed=seed,
                results=results,
            )
        )
    if blind := next((r.experiment for r in asked if not r.experiment.objective.reads_labels), None):
        raise CalotError(f"{blind.name} reads no labels: calot pretrain {data} {blind.name} --out DIR")
    folders = [str(request.folder) for request in asked]
    if twice := next((folder for folder in folders if folders.count(folder) > 1), None):
        raise CalotError(
            f"{twice}: two runs of this command would share it: name each experiment once, and differently"
        )
    return asked


def _seeds(text: str) -> list[int]:
    """The seeds in `--seeds 0,1,2`."""
    from calot.errors import CalotError

    try:
        numbers = [int(s) for s in text.split(",")]
    except ValueError:
        raise CalotError(f"--seeds {text!r}: expected whole numbers with commas, such as 0,1,2") from None
    wrong = [s for s in numbers if not 0 <= s < 2**31 or numbers.count(s) > 1]
    if wrong:
        raise CalotError(
            f"--seeds {text!r}: {wrong[0]} is not a seed; expected numbers from 0 to {2**31 - 1}, each once"
        )
    return numbers


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    split: Annotated[str, typer.Option(help="val or test. Every opening of test is counted and printed.")] = "val",
    data: Annotated[Path | None, typer.Option(help="The data folder, if it moved since training.")] = None,
    tta: Tta = None,
    mean: TtaMean = None,
    results: Results = Path("results"),
    json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    trust: Trust = False,
) -> None:
    """Score a run's best epoch on a split, with intervals by video; val chooses the thresholds, test uses them."""
    from calot.cli.openings import counting_test
    from calot.cli.statistics import metrics
    from calot.pipeline import predict_run, predict_views
    from calot.progress import Ui
    from calot.report.page import write_report
    from calot.run import folder as run_folder
    from calot.statistics.predictions import load_predictions

    ui, rule = Ui(log=run / "train.log"), mean_of(tta, mean)

    trust_code(trust, run)
    root = run_folder.data_root(run, named=data)
    on_open = counting_test(run, split=split, data=root, results=results, ui=ui)
    path = run / "predictions" / f"{split}.parquet"
    if tta is None:
        predict_run(run, split=split, data=root, ui=ui, on_open=on_open)
        finish(run, ui=ui, results=results, split=split)
    else:
        path = predict_views(run, tta=tta, mean=rule, split=split, data=root, ui=ui, on_open=on_open)
        table = load_predictions(path)
        draw_clips(table.with_labels(), run=run, folder=path.parents[1], ui=ui)
        enter_combined(path.parents[1], table=table, results=results)
        ui.say(f"report: {write_report(path.parents[1], results=results)}")
    metrics(path, json=json, results=results)


def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    data: Annotated[list[Path], typer.Option(help="A data set's folder. May be repeated.")],
    split: Annotated[str, typer.Option(help="The split to score.")] = "val",
    out: Annotated[
        Path | None, typer.Option(help="Where the table goes; by default into RUN. Of an archive: its folder.")
    ] = None,
    tta: Tta = None,
    mean: TtaMean = None,
    engine: Annotated[
        EngineName | None, typer.Option(help="Score operation by operation, resumable, into the folder --out.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes of --engine processes or ray (2).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Of an archive: print JSON only.")] = False,
    trust: Trust = False,
) -> None:
    """Write a run's predictions for any data set that calot reads; several --data, or --engine: an archive."""
    from calot.destination import require_free_file
    from calot.errors import CalotError
    from calot.pipeline import predict_run, predict_views
    from calot.progress import Ui

    if split == "test":
        raise CalotError("test is opened by `calot evaluate RUN --split test`, which counts it")
    require_no_recording(data)
    rule = mean_of(tta, mean)
    if len(data) > 1 or engine is not None or workers is not None:
        if tta is not None:
            raise CalotError("--tta goes with one --data and no --engine: an archive is scored without views")
        predict_archive(run, data=data, split=split, out=out, engine=engine, workers=workers, json=json, trust=trust)
        return
    if json:
        raise CalotError(
            "--json goes with several --data, or with --engine: one table is scored by calot metrics --json"
        )
    trust_code(trust, run)
    if out is not None:
        require_free_file(out)
    path = out or run / "predictions" / f"{split}.parquet"
    if tta is None:
        predict_run(run, split=split, data=data[0], ui=Ui(), out=out)
    else:
        path = predict_views(run, tta=tta, mean=rule, split=split, data=data[0], ui=Ui(), out=out)
    print(path)
    say_next("metrics", path)
