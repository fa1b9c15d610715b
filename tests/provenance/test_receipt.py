"""A receipt on disk, on the terminal, and in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_receipts import make_receipt

from calot.errors import CalotError
from calot.provenance.evidence import (
    AblationEvidence,
    AblationReading,
    Change,
    DifferenceEvidence,
    DoseReading,
    DosesEvidence,
    Evidence,
    FieldEvidence,
    LedgerEvidence,
    ObservedEvidence,
    ObservedReading,
    ParametersEvidence,
    StageCounts,
    StageStart,
    SwitchedOffEvidence,
    SwitchOff,
    TargetCount,
)
from calot.provenance.receipt import CHECKS, NAME, Receipt, ReceiptCheck, verdict
from calot.provenance.treatment import treatment_of

LONG = "; ".join(f"share of clips that the sampler draws of kind {k} is 0.5, declared 0.2 to 0.4" for k in range(4))


def test_a_receipt_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    made = make_receipt(failed="dose", pending=("ledger",))
    made.write(tmp_path)
    assert Receipt.load(tmp_path) == made
    fields = json.loads((tmp_path / NAME).read_text())
    assert fields["passed"] is False
    assert [check["number"] for check in fields["checks"]] == list(range(1, len(CHECKS) + 1))


def test_a_run_without_a_receipt_has_none(tmp_path: Path) -> None:
    assert Receipt.load(tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"checks": [{"name": "dose"}]}', '{"checks": 1}'])
def test_a_damaged_receipt_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(CalotError, match=r"receipt\.json: (not a receipt|not JSON that calot wrote|holds a list)"):
        Receipt.load(tmp_path)


EVIDENCE: list[Evidence] = [
    ObservedEvidence(
        floor=1e-3,
        readings=(
            ObservedReading(
                stage=2, name="rate", count=3, value=1.0, low=0.5, high=1e12, met=True, by_epoch=(1.0, None, 1.5)
            ),
        ),
    ),
    AblationEvidence(
        floor=1e-5, parts=(AblationReading(part="adapter", logits=0.02, ranks=0.1, with_it=None, without_it=0.5),)
    ),
    DifferenceEvidence(
        floor=1e-3,
        fields=(
            FieldEvidence(
                field="loss.pos_weight",
                value="5.0",
                against="1.0",
                reverted_with=("masking",),
                changes=(Change(name="gradient of stage 1", share=0.25),),
                verdict="acts",
            ),
        ),
    ),
    ParametersEvidence(
        stages=(StageCounts(stage=1, targets=(TargetCount(target="key", declared=4, observed=0),)),),
        starts=(StageStart(stage=2, best_epoch_before=3, apart=("head.1.weight",)),),
    ),
    DosesEvidence(doses=(DoseReading(name="share", value=0.1, low=0.2, high=0.4),)),
    SwitchedOffEvidence(changes=(), off=(SwitchOff(field="loss", equal=None, why="alone it is none"),)),
    LedgerEvidence(twins=("run_b",)),
]


@pytest.mark.parametrize("evidence", EVIDENCE, ids=lambda e: type(e).__name__)
def test_evidence_comes_back_from_disk_as_the_value_it_was(tmp_path: Path, evidence: Evidence) -> None:
    receipt = make_receipt().with_check(ReceiptCheck(name="dose", status="passed", why="", evidence=evidence))
    receipt.write(tmp_path)
    assert Receipt.load(tmp_path) == receipt


def test_a_receipt_of_calot_0_1_0_keeps_its_words_and_leaves_the_treatment_unverified(tmp_path: Path) -> None:
    make_receipt(failed="dose").write(tmp_path)
    fields = json.loads((tmp_path / NAME).read_text())
    del fields["format"], fields["calot"]
    for check in fields["checks"]:
        check["evidence"] = {"doses": [{"name": "share", "value": 0.1}], "with": {"a": [1, None]}}
    (tmp_path / NAME).write_text(json.dumps(fields))
    old = Receipt.load(tmp_path)
    assert old is not None
    assert (old.old, [c.name for c in old.failed], old.check("dose").evidence) == (True, ["dose"], None)
    assert treatment_of(old).invalid
    passed = replace(make_receipt(), format=1)
    assert treatment_of(passed).stamp == (
        "treatment unverified: the receipt is of an older calot, whose checks proved less"
    )


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("format", 4, "its format is 4, this calot reads up to 3"),
        ("format", "x", "its format is 'x'"),
        ("evidence", {"_type": "calot.experiment.Experiment"}, "is not the evidence of a receipt check"),
        ("evidence", {"_type": "os.system"}, "is not the evidence of a receipt check"),
        ("evidence", [1], "is not the evidence of a receipt check"),
        ("evidence", {"_type": "calot.provenance.evidence.LedgerEvidence", "more": 1}, "no field"),
    ],
)
def test_a_receipt_of_another_make_is_refused_in_one_line(
    tmp_path: Path, field: str, value: object, words: str
) -> None:
    make_receipt().write(tmp_path)
    fields = json.loads((tmp_path / NAME).read_text())
    (fields if field == "format" else fields["checks"][0])[field] = value
    (tmp_path / NAME).write_text(json.dumps(fields))
    with pytest.raises(CalotError) as refused:
        Receipt.load(tmp_path)
    message = str(refused.value)
    assert message.startswith(str(tmp_path / NAME))
    assert words in message
    assert message.endswith("train the run again with --overwrite")
    assert "\n" not in message


def test_the_table_fits_80_columns_and_loses_no_word() -> None:
    lines = make_receipt(failed="dose", why=LONG).lines()
    assert max(map(len, lines)) <= 80
    assert len(lines) > len(CHECKS)
    assert sum(line[:4].strip().isdigit() for line in lines) == len(CHECKS)
    (first,) = (place for place, line in enumerate(lines) if "FAILED" in line)
    column = lines[first].index("share of clips")
    below = lines[first + 1 : first + len(lines) - len(CHECKS) + 1]
    assert all(line[:column].isspace() and not line[column].isspace() for line in below)
    assert " ".join([lines[first][column:], *(line.strip() for line in below)]) == LONG


def test_a_check_without_a_reason_still_has_its_line() -> None:
    receipt = make_receipt().with_check(ReceiptCheck(name="dose", status="passed", why=""))
    assert receipt.lines()[5].split() == ["6", "dose", "ok"]


def test_the_verdict_is_one_line_without_a_lead_of_its_own() -> None:
    assert verdict(make_receipt().checks) == "all checks hold"
    assert verdict(make_receipt(pending=("ledger", "controls")).checks) == "ledger, controls not yet made"
    assert verdict(make_receipt(failed="dose").checks) == "INVALID: receipt check dose failed"
