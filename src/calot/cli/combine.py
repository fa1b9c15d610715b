"""`calot ensemble`, and what follows predictions that are a mean of others: the ledger's line and the page."""

from __future__ import annotations

import json as json_module
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calot.cli.next_step import say_next, with_results

if TYPE_CHECKING:
    from calot.statistics.predictions import Predictions


class MeanKind(StrEnum):
    """What is averaged."""

    logits = "logits"
    probabilities = "probabilities"


TTA = "Average views of each clip: flip, shift, crops (commas). They go into a run's folder beside RUN, RUN_tta_VIEWS."
Tta = Annotated[str | None, typer.Option("--tta", metavar="VIEWS", help=TTA)]
TtaMean = Annotated[MeanKind | None, typer.Option("--mean", help="With --tta: what is averaged (default: logits).")]


def mean_of(tta: str | None, mean: MeanKind | None) -> Any:
    """The mean that goes with --tta. Raises CalotError for one that goes with nothing."""
    from calot.errors import CalotError

    if tta is None and mean is not None:
        raise CalotError("--mean goes with --tta, whose views it averages; runs are averaged by calot ensemble")
    return (mean or MeanKind.logits).value


def ensemble(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="The members: runs scored on the same clips.")],
    out: Annotated[Path, typer.Option(help="The run's folder to make, or to add a split to.")],
    mean: Annotated[MeanKind, typer.Option(help="What is averaged.")] = MeanKind.logits,
    split: Annotated[str, typer.Option(help="val or test, after val. Each opening of test is counted.")] = "val",
    results: Annotated[Path, typer.Option(help="Results root, whose ledger counts.")] = Path("results"),
    json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Average the predictions of several runs, from their sealed tables alone; --out is a run that metrics, compare,
    report and audit read."""
    from calot.progress import Ui
    from calot.provenance.combined_run import CombinedRun, ensemble_of, experiment_of, require_place, write_combined
    from calot.provenance.ledger import TEST_OPENED
    from calot.run.environment import describe_without_model
    from calot.statistics.summary import combination_facts

    combination, table = ensemble_of(runs, split=split, mean=mean_of("", mean))
    require_place(out, combination=combination, split=split)
    if split == "test":
        record = _ledger(table, run=runs[0], results=results)
        record.record(TEST_OPENED, run=str(out))
        count = record.test_openings()
        Ui().say(f"test opened for this data set: {count} time{'s' if count != 1 else ''}, wherever results go")
    made = CombinedRun(
        combination=combination,
        runs=runs,
        experiment={"_type": "Ensemble", "mean": mean.value, "members": [experiment_of(run) for run in runs]},
        environment=describe_without_model(started=time.strftime("%Y-%m-%d %H:%M:%S")),
        table=table,
        views={},
    )
    path = write_combined(out, made)
    enter_combined(out, table=table, results=results)
    facts = combination_facts(combination) | {"run": str(out), "fingerprint": combination.fingerprint}
    if json:
        print(json_module.dumps(facts | {"split": split, "predictions": str(path)}, indent=1))
        return
    print(f"{out}: {combination}")
    say_next("metrics", path, *with_results(results))


def enter_combined(folder: Path, *, table: Predictions, results: Path) -> None:
    """A line in the ledger, which counts a mean of predictions as one more setting that was tried on these labels."""
    from calot.provenance.ledger import COMBINED
    from calot.provenance.twins import sketch
    from calot.run.environment import code_hash

    labelled = table.with_labels()
    found = sketch(labelled.logits, digest=labelled.digest)
    of = {"fingerprint": table.fingerprint, "split": table.split, "code": code_hash()}
    _ledger(table, run=folder, results=results).record(COMBINED, run=str(folder), **found, **of)


def _ledger(table: Predictions, *, run: Path, results: Path) -> Any:
    from calot.cli.tables import data_of
    from calot.provenance.data_ledger import DataLedger

    data = data_of(run / "predictions" / f"{table.split}.parquet")
    return DataLedger(manifest_hash=table.manifest_hash, data=data, results=results)
