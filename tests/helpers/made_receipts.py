"""Receipts made up for the tests of what is said of them."""

from __future__ import annotations

from calot.provenance.receipt import CHECKS, Receipt, ReceiptCheck, Status


def make_receipt(
    *,
    failed: str | None = None,
    pending: tuple[str, ...] = (),
    fingerprint: str = "f" * 64,
    why: str = "share of batches under mixup is 0, declared 0.2 to 0.4",
) -> Receipt:
    """All checks, passed but for the ones named."""

    def status(name: str) -> Status:
        return "failed" if name == failed else "pending" if name in pending else "passed"

    checks = tuple(
        ReceiptCheck(name=name, status=status(name), why=why if name == failed else "as declared") for name in CHECKS
    )
    return Receipt(experiment="e06", baseline="e02", fingerprint=fingerprint, checks=checks)
