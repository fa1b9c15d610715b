"""A run's receipt: most checks before training, what was observed and the ledger's answer after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from calot.errors import CalotError
from calot.experiment import Experiment, scaled
from calot.progress import Ui
from calot.provenance.custody import unseal
from calot.provenance.evidence import LedgerEvidence, ObservedReading, ParametersEvidence, StageStart
from calot.provenance.receipt import CHECKS, Receipt, ReceiptCheck, Status, verdict
from calot.receipts.ablation import ablation_check
from calot.receipts.attention import instruments_check
from calot.receipts.difference import declared_difference
from calot.receipts.dose import dose_check
from calot.receipts.gradients import training_checks
from calot.receipts.observed import observed_check
from calot.receipts.pretraining import PretrainingObserver, receipt_of_pretraining, with_pretraining
from calot.receipts.probe import ProbeData, probe_data
from calot.receipts.sanity import with_controls
from calot.receipts.sharing import conditions, shared_checks
from calot.receipts.watching import RunObserver
from calot.run.data import OpenData
from calot.run.request import Request
from calot.run.trainer import Trainer
from calot.train import checkpoint
from calot.wall import spent_on

NO_BASELINE = "no baseline: nothing is declared to differ"


def receipt_before(request: Request, *, ui: Ui, results: Path, controls: bool = True) -> Receipt:
    """Make every check that needs no trained weights; what had to be decoded for it is gone afterwards.

    `results` keeps the controls of each experiment, and with `share_receipt` the rest, for other seeds. Raises
    CalotError for bad input, never for a failed check.
    """
    experiment = request.experiment
    name, baseline = _baseline(request)
    receipt = Receipt(experiment=experiment.name, baseline=name, fingerprint=experiment.fingerprint(), checks=())
    with probe_data(request.data, experiment=experiment, ui=ui) as data:
        with ui.task("receipt") as advance:
            makers = _makers(experiment, baseline, request=request, data=data)

            def rehearsed() -> Iterator[ReceiptCheck]:
                for number, make in enumerate(makers, start=1):
                    yield from make()
                    advance(number, len(makers))

            if request.share_receipt:
                under = conditions(experiment, baseline, request=request, data=data)
                how: dict[str, Any] = {"under": under, "request": request, "results": results}
                receipt = shared_checks(receipt, "rehearsals", lambda: list(rehearsed()), **how)
            else:
                receipt = receipt.with_checks(rehearsed())
        if controls and not receipt.failed:  # they take longest, and would change nothing
            receipt = with_controls(receipt, experiment, request=request, results=results, data=data)
    for pending in ("observed", "ablation", "ledger", "controls"):
        if pending not in {c.name for c in receipt.checks}:
            receipt = receipt.with_check(ReceiptCheck(name=pending, status="pending", why=f"{CHECKS[pending]}?"))
    return receipt


def _makers(
    experiment: Experiment, baseline: Experiment | None, *, request: Request, data: ProbeData
) -> list[Callable[[], tuple[ReceiptCheck, ...]]]:
    def difference() -> tuple[ReceiptCheck, ...]:
        if baseline is None:
            names = ("declared difference", "switched off")
            return tuple(ReceiptCheck(name=n, status="not applicable", why=NO_BASELINE) for n in names)
        return declared_difference(experiment, baseline, request=request, data=data)

    return [
        lambda: training_checks(experiment, request=request, data=data),
        lambda: (dose_check(experiment, request=request, data=data),),
        lambda: (instruments_check(experiment, request=request, data=data),),
        difference,
    ]


def _baseline(request: Request) -> tuple[str | None, Experiment | None]:
    """The named baseline at the run's scale; for a shipped experiment that was overridden, itself as shipped."""
    experiment, shipped = request.experiment, scaled(request.found.experiment, request.scale)
    if request.baseline is not None:
        name, base = str(experiment.baseline), request.baseline
    elif experiment.difference(shipped):
        name, base = f"{shipped.name} as shipped", shipped
    else:
        return None, None
    return name, replace(base, name=experiment.name, baseline=experiment.baseline, compute=experiment.compute)


@spent_on("rehearsal")
def opening_receipt(request: Request, *, ui: Ui, data: OpenData | None = None) -> Receipt:
    """The receipt a run begins with, printed and written; a resumed run keeps its own. `data` is the run's, where it
    is open already.

    Raises CalotError where a check failed: a treatment that provably does nothing, or not what it says, is not trained
    unless the request insists.
    """
    kept = Receipt.load(request.folder) if request.resume else None
    if kept is not None and kept.fingerprint == request.experiment.fingerprint() and not kept.old:
        return kept
    if request.experiment.objective.reads_labels:
        receipt = receipt_before(request, ui=ui, results=request.results)
    else:
        opened = data or OpenData.of(request.data, experiment=request.experiment, ui=ui)
        receipt = receipt_of_pretraining(request, data=opened)
    say(receipt, ui=ui, folder=request.folder)
    if receipt.failed and not request.despite_receipt:
        found = "; ".join(f"{c.name}: {c.why}" for c in receipt.failed)
        raise CalotError(
            f"{verdict(receipt.checks)} before training ({found}). Fix the experiment, or train it anyway with "
            "--despite-receipt: its results are then stamped INVALID."
        )
    unseal(request.folder)
    receipt.write(request.folder)
    return receipt


def say(receipt: Receipt, *, ui: Ui, folder: Path | None = None) -> None:
    """The short table, on the terminal and in the log."""
    against = f" against {receipt.baseline}" if receipt.baseline else ""
    borrowed = [m.described() for m in receipt.measured if folder is not None and m.run != str(folder)]
    ui.say(
        "\n".join([f"receipt of {receipt.experiment}{against}: {verdict(receipt.checks)}", *receipt.lines(), *borrowed])
    )


def with_starts(receipt: Receipt, starts: Sequence[Mapping[str, Any]]) -> Receipt:
    """What training itself showed: that each later stage started from the best of the one before."""
    check = receipt.check("trainable parameters")
    evidence = check.evidence if isinstance(check.evidence, ParametersEvidence) else ParametersEvidence()
    if not starts or evidence.starts:  # a complete run that is resumed has them already
        return receipt
    found = tuple(
        StageStart(stage=s["stage"], best_epoch_before=s["best epoch before"], apart=tuple(s["apart"])) for s in starts
    )
    wrong = [s for s in found if s.apart]
    why = check.why + "".join(f"; stage {s.stage} did not start from the best before it" for s in wrong)
    if not wrong:
        why += f"; {len(found)} later stage{'s' if len(found) > 1 else ''} started from the best before"
    status: Status = "failed" if wrong else check.status
    return receipt.with_check(replace(check, status=status, why=why, evidence=replace(evidence, starts=found)))


def with_training(receipt: Receipt, trainer: Trainer) -> Receipt:
    """What training and the trained model showed: later stages' starts, what was observed, and parts switched off."""
    receipt = with_starts(receipt, trainer.progress.starts)
    if not trainer.request.experiment.objective.reads_labels:
        return with_pretraining(receipt, trainer, chosen=chosen_epoch(trainer))
    if all(receipt.check(name).status != "pending" for name in ("observed", "ablation")):
        return receipt  # a complete run that is resumed
    experiment, table = trainer.request.experiment, trainer.train_set.table
    seen = observed_check(
        experiment,
        trainer.progress.observed,
        labels=table.labels,
        steps=[-(-len(table) // stage.batch) for stage in experiment.stages],
        chosen=chosen_epoch(trainer),
    )
    return receipt.with_check(seen).with_check(ablation_check(trainer))


def observer_of(trainer: Trainer) -> RunObserver:
    """Who looks on in a run, for the check of what was observed."""
    experiment = trainer.request.experiment
    kind = RunObserver if experiment.objective.reads_labels else PretrainingObserver
    return kind(experiment, trainer.train_set, trainer.val_set)


def chosen_epoch(trainer: Trainer) -> ObservedReading:
    """How far the epoch whose weights were kept is from the best that could have been, by its own score."""
    best, selection = checkpoint.load(trainer.checkpoints.best).progress, trainer.objective.selection
    rows = [r for r in trainer.progress.rows if r["stage"] == best["stage"] + 1]
    scores = [
        r[selection.column] for r in rows if selection.column in r and trainer.objective.begun(epoch=r["epoch"] - 1)
    ]
    top = max(scores) if selection.higher_is_better else min(scores)
    short = abs(top - rows[best["epoch"] - 1][selection.column])
    name = f"{selection.title} of the epoch that was kept, short of the best"
    return ObservedReading(
        stage=best["stage"] + 1, name=name, count=len(scores), value=short, low=0.0, high=0.0, met=short == 0.0
    )


@spent_on("closing")
def closing_receipt(folder: Path, *, twins: Sequence[str], ui: Ui) -> None:
    """Put the ledger's answer into a run's receipt, where it has one, and print it: `twins` are runs of another
    treatment with equal predictions, each with what is equal."""
    receipt = Receipt.load(folder)
    if receipt is None:
        ui.say("treatment unverified: this run has no receipt")
        return
    why = "no other treatment gave these predictions, these ranks, or logits within 1e-4"
    if twins:
        why = f"another treatment gave the same ({'; '.join(twins)})"
    status: Status = "failed" if twins else "passed"
    check = ReceiptCheck(name="ledger", status=status, why=why, evidence=LedgerEvidence(twins=tuple(twins)))
    receipt = receipt.with_check(check)
    receipt.write(folder)
    say(receipt, ui=ui, folder=folder)
