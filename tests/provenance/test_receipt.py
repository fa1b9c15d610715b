"""A receipt on disk, on the terminal, and in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_receipts import make_receipt

from calot.errors import CalotError
from calot.provenance.receipt import CHECKS, NAME, Receipt, ReceiptCheck, verdict

LONG = "; ".join(f"share of clips that the sampler draws of kind {k} is 0.5, declared 0.2 to 0.4" for k in range(4))


def test_a_receipt_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    made = make_receipt(failed="dose", pending=("ledger",))
    made.write(tmp_path)
    assert Receipt.load(tmp_path) == made
    fields = json.loads((tmp_path / NAME).read_text())
    assert fields["passed"] is False
    assert [check["number"] for check in fields["checks"]] == list(range(1, 10))


def test_a_run_without_a_receipt_has_none(tmp_path: Path) -> None:
    assert Receipt.load(tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"checks": [{"name": "dose"}]}', '{"checks": 1}'])
def test_a_damaged_receipt_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(CalotError, match=r"receipt\.json: not a receipt"):
        Receipt.load(tmp_path)


def test_the_table_fits_80_columns_and_loses_no_word() -> None:
    lines = make_receipt(failed="dose", why=LONG).lines()
    assert max(map(len, lines)) <= 80
    assert len(lines) > len(CHECKS)
    assert sum(line[2:3].isdigit() for line in lines) == len(CHECKS)
    (first,) = (place for place, line in enumerate(lines) if "FAILED" in line)
    column = lines[first].index("share of clips")
    below = lines[first + 1 : -3]
    assert all(line[:column].isspace() and not line[column].isspace() for line in below)
    assert " ".join([lines[first][column:], *(line.strip() for line in below)]) == LONG


def test_a_check_without_a_reason_still_has_its_line() -> None:
    receipt = make_receipt().with_check(ReceiptCheck(name="dose", status="passed", why=""))
    assert receipt.lines()[5].split() == ["6", "dose", "ok"]


def test_the_verdict_is_one_line_without_a_lead_of_its_own() -> None:
    assert verdict(make_receipt().checks) == "all checks hold"
    assert verdict(make_receipt(pending=("ledger", "controls")).checks) == "ledger, controls not yet made"
    assert verdict(make_receipt(failed="dose").checks) == "INVALID: receipt check dose failed"
