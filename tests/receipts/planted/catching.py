"""Who catches a planted fault: the real checks of a receipt, and a short real run where only training can show it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from run_requests import requested, trained

from calot.config.overrides import apply_overrides
from calot.experiment import scaled
from calot.experiments import find
from calot.progress import Ui
from calot.provenance.receipt import CHECKS, Receipt, ReceiptCheck
from calot.receipts.attention import instruments_check
from calot.receipts.difference import declared_difference
from calot.receipts.dose import dose_check
from calot.receipts.gradients import training_checks
from calot.receipts.probe import probe_data
from calot.receipts.receipt import _baseline
from calot.run.request import Request

DURING = ("observed", "ablation", "trainable parameters (after training)")


def request_of(name: str, changes: tuple[str, ...], *, phantom: Path, folder: Path) -> Request:
    """An experiment at tiny scale as `calot train` would ask for it."""
    found = find(name)
    experiment = apply_overrides(scaled(found.experiment, "tiny"), changes)
    where = {"data": phantom, "folder": folder, "results": folder}
    return Request(found=found, experiment=experiment, scale="tiny", seed=0, **where)


def checks_before(request: Request, *, only: str | None = None) -> list[ReceiptCheck]:
    """The checks that come before training, or those made together with one of them."""
    experiment, found = request.experiment, []
    with probe_data(request.data, experiment=experiment, ui=Ui()) as data:
        if only in (None, "trainable parameters", "gradients", "loss terms"):
            found += training_checks(experiment, request=request, data=data)
        if only in (None, "dose"):
            found.append(dose_check(experiment, request=request, data=data))
        if only in (None, "instruments"):
            found.append(instruments_check(experiment, request=request, data=data))
        baseline = _baseline(request)[1]
        if only in (None, "declared difference", "switched off") and baseline is not None:
            found += declared_difference(experiment, baseline, request=request, data=data)
    return found


def checks_after(name: str, changes: tuple[str, ...], *, phantom: Path, folder: Path) -> list[ReceiptCheck]:
    """What a run of two epochs shows; its receipt begins with every other check passed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calot.pipeline.opening_receipt", _begun)
        request = replace(requested(phantom, folder, name, changes=changes), receipt=True)
        receipt = Receipt.load(trained(request))
    assert receipt is not None
    return [c for c in receipt.checks if c.name in ("observed", "ablation", "trainable parameters")]


def _begun(request: Request, **how: object) -> Receipt:
    pending = ("observed", "ablation", "ledger")
    checks = tuple(
        ReceiptCheck(name=n, status="pending" if n in pending else "passed", why="not asked here") for n in CHECKS
    )
    return Receipt(experiment="", baseline=None, fingerprint=request.experiment.fingerprint(), checks=checks)


def failed(checks: list[ReceiptCheck]) -> dict[str, str]:
    """The checks that failed, each with its reason."""
    return {c.name: c.why for c in checks if c.status == "failed"}
