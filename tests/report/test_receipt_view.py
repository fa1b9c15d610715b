"""The receipt in words: every shape of evidence, and checks that the file does not name."""

from __future__ import annotations

from typing import Any

import pytest

from calot.provenance.receipt import Receipt, ReceiptCheck
from calot.provenance.treatment import Treatment
from calot.report.receipt_view import evidence_tables, receipt_view


def _check(**evidence: Any) -> ReceiptCheck:
    return ReceiptCheck(name="dose", status="passed", why="as declared", evidence=evidence)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "not told"),
        (True, "yes"),
        (66432, "66,432"),
        (0.42548684927, "0.4255"),
        (1e-9, "1e-09"),
        ([], "none"),
        (["head", "pooling"], "head, pooling"),
        ({}, "none"),
        ("layer.3", "layer.3"),
    ],
)
def test_a_measured_value_in_words(value: object, shown: str) -> None:
    (table,) = evidence_tables(_check(figure=value))
    assert [row.cells for row in table.rows] == [("figure", shown)]
    assert table.title == "6 dose"


def test_a_list_of_records_is_a_table_with_every_column_that_occurs() -> None:
    (table,) = evidence_tables(_check(off=[{"field": "loss", "equal": True}, {"field": "clip", "why": {"a": 1}}]))
    assert table.title == "6 dose: off"
    assert [column.name for column in table.columns] == ["field", "equal", "why"]
    assert [row.cells for row in table.rows] == [("loss", "yes", ""), ("clip", "", "a 1")]


def test_single_figures_and_named_groups_stand_apart() -> None:
    tables = evidence_tables(_check(p=0.5, shuffled={"map": 0.25, "deals": [1, 2]}))
    assert [table.title for table in tables] == ["6 dose", "6 dose: shuffled"]
    assert [row.cells for row in tables[1].rows] == [("map", "0.25"), ("deals", "1, 2")]


def test_checks_that_the_file_does_not_name_are_not_made() -> None:
    receipt = Receipt(experiment="e", baseline=None, fingerprint="f", checks=(_check(),))
    view = receipt_view(receipt, treatment=Treatment(status="unverified", why="receipt check ledger not made"))
    assert len(view.lines) == 9
    assert [line.mark for line in view.lines].count("not made") == 8
    assert view.summary == "Nine checks that what this run declares took effect: 1 hold, 8 not made."
    assert (view.invalid, view.evidence) == (False, [])
