"""The receipt in words: every shape of evidence, and checks that the file does not name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from calot.provenance.evidence import (
    Change,
    ControlsEvidence,
    DifferenceEvidence,
    DoseReading,
    DosesEvidence,
    Evidence,
    FieldEvidence,
    LedgerEvidence,
    Overfit,
    Shuffled,
)
from calot.provenance.receipt import CHECKS, Receipt, ReceiptCheck
from calot.provenance.treatment import Treatment
from calot.report.receipt_view import evidence_tables, receipt_view


@dataclass(frozen=True)
class _Figure(Evidence):
    figure: Any


def _check(evidence: Evidence | None) -> ReceiptCheck:
    return ReceiptCheck(name="dose", status="passed", why="as declared", evidence=evidence)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "not reported"),
        (True, "yes"),
        (66432, "66,432"),
        (0.42548684927, "0.4255"),
        (1e-9, "1e-09"),
        ((), "none"),
        (("head", "pooling"), "head, pooling"),
        ("layer.3", "layer.3"),
    ],
)
def test_a_measured_value_in_words(value: object, shown: str) -> None:
    (table,) = evidence_tables(_check(_Figure(value)))
    assert [row.cells for row in table.rows] == [("figure", shown)]
    assert table.title == "6 dose"


def test_a_list_of_records_is_a_table_with_the_names_of_its_fields() -> None:
    field = FieldEvidence(
        field="mixing", value="Mixing()", against="None", verdict="acts", changes=(Change(name="batches", share=0.25),)
    )
    single, table = evidence_tables(_check(DifferenceEvidence(floor=1e-3, fields=(field,))))
    assert [row.cells for row in single.rows] == [("floor", "0.001")]
    assert table.title == "6 dose: fields"
    assert [column.name for column in table.columns] == [
        *("field", "value", "against", "reverted with", "changes", "verdict")
    ]
    assert [row.cells for row in table.rows] == [("mixing", "Mixing()", "None", "none", "batches 0.25", "acts")]


def test_each_part_of_several_has_a_table_of_its_own() -> None:
    over = Overfit(clips=8, map=1.0, steps=50, lr=2e-3, reachable=1.0)
    shuffled = Shuffled(
        auc=0.5, p=0.5, auc_of_each_deal=(0.25, 0.75), auc_of_true_labels=0.7, acts=True, steps=12, val_clips=54
    )
    tables = evidence_tables(_check(ControlsEvidence(overfit=over, shuffled=shuffled)))
    assert [table.title for table in tables] == ["6 dose: overfit", "6 dose: shuffled"]
    assert ("auc of each deal", "0.25, 0.75") in [row.cells for row in tables[1].rows]


def test_a_check_that_measured_nothing_has_no_table() -> None:
    assert evidence_tables(_check(None)) == []
    (table,) = evidence_tables(_check(LedgerEvidence()))
    assert [row.cells for row in table.rows] == [("twins", "none")]


def test_checks_that_the_file_does_not_name_are_not_made() -> None:
    receipt = Receipt(experiment="e", baseline=None, fingerprint="f", checks=(_check(None),))
    view = receipt_view(receipt, treatment=Treatment(status="unverified", why="receipt check ledger not made"))
    assert len(view.lines) == len(CHECKS)
    assert [line.mark for line in view.lines].count("not made") == 10
    assert view.summary == "11 checks that what this run declares took effect: 1 hold, 10 not made."
    assert (view.invalid, view.evidence) == (False, [])


def test_a_dose_says_its_band_in_words() -> None:
    doses = DosesEvidence(
        doses=(
            DoseReading(name="share", value=0.5, low=1e-9, high=1.0),
            DoseReading(name="apart", value=0.0, low=0.0, high=0.0),
            DoseReading(name="angle", value=7.25, low=7.0, high=8.0),
        )
    )
    assert [str(d) for d in doses.doses] == [
        "share is 0.5, declared above 0",
        "apart is 0, declared 0",
        "angle is 7.25, declared 7 to 8",
    ]
