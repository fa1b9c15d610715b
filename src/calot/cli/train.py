"""`calot train`, `evaluate` and `predict`."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calot.cli.next_step import report_of, say_next

if TYPE_CHECKING:
    from calot.progress import Ui
    from calot.run.request import Request
    from calot.statistics.predictions import Predictions

Data = Annotated[Path, typer.Option(help="A data set's folder, in the Endoscapes layout.")]
Trust = Annotated[bool, typer.Option("--trust", help="Run the components that a run from elsewhere brings along.")]
Results = Annotated[Path, typer.Option(help="Where runs go by default, and where the ledger lives.")]


def train(
    what: Annotated[list[str], typer.Argument(help="Experiments by name or path to a .py, and key=value changes.")],
    data: Data,
    out: Annotated[Path | None, typer.Option(help="The run's folder (one run), or the folder of all runs.")] = None,
    scale: Annotated[str, typer.Option(help="full, or tiny for the embedded size.")] = "full",
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds; one run each.")] = "42",
    results: Results = Path("results"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start the run in --out again.")] = False,
    drop_unreadable: Annotated[
        bool, typer.Option("--drop-unreadable", help="Drop frames that cannot be read, counted and reported.")
    ] = False,
    receipt: Annotated[bool, typer.Option(help="Prove before training that the treatment takes effect.")] = True,
    despite_receipt: Annotated[bool, typer.Option("--despite-receipt", help="Train even if a check failed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure a few steps; estimate the run's cost.")] = False,
    price_per_hour: Annotated[float | None, typer.Option(help="With --dry-run: the machine's price.")] = None,
    json: Annotated[bool, typer.Option("--json", help="With --dry-run: print JSON only.")] = False,
    trust: Trust = False,
) -> None:
    """Train experiments; each run ends with validation predictions and a report."""
    from calot.cli.dry_run import show_dry_run
    from calot.errors import CalotError
    from calot.machine_errors import TRAINING_ADDRESSES, require_address_space
    from calot.pipeline import train_run
    from calot.progress import Ui
    from calot.provenance.receipt import Receipt
    from calot.run.signals import stop_on_signal

    require_address_space(TRAINING_ADDRESSES)
    if resume and overwrite:
        raise CalotError("--resume continues a run and --overwrite starts it again: give one of them")
    if resume and out is None:
        raise CalotError("--resume needs --out, the folder of the run to continue")
    words = [*what, *(["frames.drop_unreadable=True"] if drop_unreadable else [])]
    asked = requests(words, data=data, out=out, results=results, scale=scale, seeds=seeds)
    if (json or price_per_hour is not None) and not dry_run:
        raise CalotError("--json and --price-per-hour go with --dry-run: a run itself prints its progress and report")
    if price_per_hour is not None and not 0 <= price_per_hour < float("inf"):
        raise CalotError(f"--price-per-hour {price_per_hour}: expected what an hour costs, 0 or more")
    if dry_run:
        flags = {"--out": out, "--scale": scale, "--seeds": seeds, "--results": results}
        given = [part for k, v in flags.items() if v not in (None, "full", "42", Path("results")) for part in (k, v)]
        show_dry_run(asked, price_per_hour=price_per_hour, json=json, again=("train", *words, "--data", data, *given))
        return
    _trust(trust, *(r.folder for r in asked if resume))
    ui = Ui()
    with stop_on_signal() as stopper:
        for request in asked:
            request = replace(
                request, resume=resume, overwrite=overwrite, receipt=receipt, despite_receipt=despite_receipt
            )
            stopper.saying = f"{request.folder}: stopped. Continue with --resume --out {out or request.folder}."
            ui.say(f"{request.experiment.name} seed {request.seed} -> {request.folder}")
            folder = train_run(request, ui=ui, stopper=stopper)
            finish(folder, ui=ui, results=results)
    invalid = [str(r.folder) for r in asked if (made := Receipt.load(r.folder)) is not None and made.failed]
    if invalid:
        print(f"INVALID, see receipt.json: {', '.join(invalid)}")
        raise typer.Exit(1)
    say_next(*_after_training(asked))


def _after_training(asked: list[Request]) -> tuple[object, ...]:
    """Compare what was trained, or show a single experiment. Test is opened last, not after a first run."""
    names = {request.experiment.name for request in asked}
    if len(names) > 1:
        return "compare", *(request.folder for request in asked)
    return report_of([request.folder for request in asked])


def _trust(trust: bool, *folders: Path) -> None:
    """Run the user code stored in these runs, although it was never run here before."""
    from calot.run.experiment_file import trust_own_code

    for folder in folders if trust else ():
        if (folder / "experiment.json").exists():
            trust_own_code(folder)


def requests(what: list[str], *, data: Path, out: Path | None, results: Path, scale: str, seeds: str) -> list[Request]:
    """The runs that a command line asks for: every experiment with every seed."""
    from calot.config.overrides import is_override
    from calot.errors import CalotError
    from calot.experiments import resolve
    from calot.run.request import Request

    overrides = [w for w in what if is_override(w)]
    experiments = [w for w in what if not is_override(w)]
    if not experiments:
        raise CalotError("name at least one experiment; `calot experiments list` shows them")
    try:
        numbers = [int(s) for s in seeds.split(",")]
    except ValueError:
        raise CalotError(f"--seeds {seeds!r}: expected whole numbers with commas, such as 0,1,2") from None
    wrong = [s for s in numbers if not 0 <= s < 2**31 or numbers.count(s) > 1]
    if wrong:
        raise CalotError(
            f"--seeds {seeds!r}: {wrong[0]} is not a seed; expected numbers from 0 to {2**31 - 1}, each once"
        )
    resolved = [resolve(name, overrides=overrides, scale=scale) for name in experiments]
    pairs = [(one, seed) for one in resolved for seed in numbers]
    asked = []
    for one, seed in pairs:
        experiment = one.experiment
        if out is None:
            folder = results / experiment.name / f"run_{time.strftime('%Y%m%d_%H%M%S')}_s{seed}"
        else:
            folder = out if len(pairs) == 1 else out / experiment.name / f"s{seed}"
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
    folders = [str(request.folder) for request in asked]
    if twice := next((folder for folder in folders if folders.count(folder) > 1), None):
        raise CalotError(
            f"{twice}: two runs of this command would share it: name each experiment once, and differently"
        )
    return asked


def finish(folder: Path, *, ui: Ui, results: Path, split: str = "val") -> None:
    """A line in the ledger, the run's seal, pictures of the clips the page shows, then the page."""
    from calot.pipeline import clip_frames
    from calot.provenance.custody import seal, unseal
    from calot.receipts.receipt import closing_receipt
    from calot.report.page import write_report
    from calot.report.pictures import choose_clips, write_clip_sheet
    from calot.statistics.predictions import load_predictions

    predictions = load_predictions(folder / "predictions" / f"{split}.parquet").with_labels()
    twins = _enter(predictions, folder=folder, results=results, ui=ui)
    if split == "val":
        unseal(folder)
        closing_receipt(folder, twins=twins, ui=ui)
        seal(folder)
    choices = choose_clips(predictions)
    frames = clip_frames(folder, split=split, clips=[(c.video, c.frame) for c in choices], ui=ui)
    for choice, images in zip(choices, frames, strict=True):
        write_clip_sheet(images, folder / "figures" / "clips" / split / choice.file_name)
    ui.say(f"report: {write_report(folder, results=results)}")


def _enter(predictions: Predictions, *, folder: Path, results: Path, ui: Ui) -> list[str]:
    """Enter predictions into the ledger; report and return which runs of another treatment gave the same ones.

    They are entered before the look-up: of two processes that end at once, at least one finds the other.
    """
    from calot.provenance.data_ledger import DataLedger
    from calot.provenance.ledger import PREDICTED
    from calot.provenance.twins import sketch
    from calot.run.environment import code_hash

    record, code = DataLedger(manifest_hash=predictions.manifest_hash, results=results), code_hash()
    found = sketch(predictions.logits, digest=predictions.digest)
    of = {"fingerprint": predictions.fingerprint, "split": predictions.split}
    record.record(PREDICTED, run=str(folder), code=code, **found, **of)
    twins = record.twins(found, code=code, **of)
    for twin in twins:
        ui.say(f"INVALID: another treatment gave {twin.alike} ({twin.entry.facts.get('run')}): it took no effect")
    return [str(twin) for twin in twins]


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    split: Annotated[str, typer.Option(help="val or test. Every opening of test is counted and printed.")] = "val",
    data: Annotated[Path | None, typer.Option(help="The data folder, if it moved since training.")] = None,
    results: Results = Path("results"),
    json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    trust: Trust = False,
) -> None:
    """Score a run's best epoch on a split, with intervals by video; val chooses the thresholds, test uses them."""
    from calot.cli.statistics import metrics
    from calot.pipeline import predict_run
    from calot.progress import Ui
    from calot.provenance.data_ledger import DataLedger
    from calot.provenance.ledger import TEST_OPENED
    from calot.run import folder as run_folder

    ui = Ui(log=run / "train.log")

    def on_open(manifest_hash: str) -> None:
        if split != "test":
            return
        record = DataLedger(manifest_hash=manifest_hash, data=root, results=results)
        record.record(TEST_OPENED, run=str(run))
        count = record.test_openings()
        ui.say(f"test opened for this data set: {count} time{'s' if count != 1 else ''}, wherever results go")

    _trust(trust, run)
    root = data or Path(run_folder.read_data(run)["root"])
    predict_run(run, split=split, data=root, ui=ui, on_open=on_open)
    finish(run, ui=ui, results=results, split=split)
    metrics(run / "predictions" / f"{split}.parquet", json=json, results=results)


def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    data: Data,
    split: Annotated[str, typer.Option(help="The split to score.")] = "val",
    out: Annotated[Path | None, typer.Option(help="Where the table goes; by default into the run's folder.")] = None,
    trust: Trust = False,
) -> None:
    """Write a run's predictions for any data set in the Endoscapes layout."""
    from calot.errors import CalotError
    from calot.pipeline import predict_run
    from calot.progress import Ui

    if split == "test":
        raise CalotError("test is opened by `calot evaluate RUN --split test`, which counts it")
    _trust(trust, run)
    path = out or run / "predictions" / f"{split}.parquet"
    predict_run(run, split=split, data=data, ui=Ui(), out=out)
    print(path)
    say_next("metrics", path)
