"""What a receipt lets one say, of one run and of several together."""

from __future__ import annotations

from dataclasses import replace

from made_receipts import make_receipt

from calot.provenance.treatment import NO_RECEIPT, Treatment, treatment_of, weakest

VERIFIED = Treatment(status="verified")


def test_nine_checks_that_hold_verify_the_treatment() -> None:
    assert treatment_of(make_receipt(), fingerprint="f" * 64) == VERIFIED
    assert VERIFIED.stamp == ""


def test_no_receipt_and_checks_not_made_leave_the_treatment_unverified() -> None:
    assert treatment_of(None).stamp == "treatment unverified: no receipt"
    pending = treatment_of(make_receipt(pending=("ledger", "controls")))
    assert pending.stamp == "treatment unverified: receipt check ledger, controls not made"
    fewer = make_receipt()
    assert "controls not made" in treatment_of(replace(fewer, checks=fewer.checks[:-1])).stamp
    assert treatment_of(replace(fewer, checks=())).status == "unverified"


def test_a_failed_check_is_invalid_whatever_else_is_pending() -> None:
    found = treatment_of(make_receipt(failed="dose", pending=("ledger",)))
    assert found.invalid
    assert found.stamp.startswith("INVALID: receipt check dose failed (share of batches under mixup is 0")


def test_the_receipt_of_another_experiment_proves_nothing_here() -> None:
    for receipt in (make_receipt(), make_receipt(failed="dose")):
        found = treatment_of(receipt, fingerprint="a" * 64)
        assert found.status == "unverified"
        assert "the receipt is of another experiment" in found.why
    assert treatment_of(make_receipt(), fingerprint="unknown") == VERIFIED


def test_of_several_runs_the_weakest_counts_and_is_named() -> None:
    wrong = Treatment(status="invalid", why="receipt check dose failed")
    assert weakest({"s0": VERIFIED, "s1": VERIFIED}) == VERIFIED
    assert weakest({"s0": VERIFIED, "s1": NO_RECEIPT}).stamp == "treatment unverified: no receipt in s1"
    assert weakest({"s0": NO_RECEIPT, "s1": NO_RECEIPT}).stamp == "treatment unverified: no receipt"
    found = weakest({"s0": VERIFIED, "s1": NO_RECEIPT, "s2": wrong})
    assert found.stamp == "INVALID: receipt check dose failed in s2"
