"""Lists of named components are read, changed and compared by name."""

import pytest

from calot.config.overrides import apply_overrides
from calot.errors import CalotError
from calot.experiments import find
from calot.models.heads import LinearHead

E08 = find("e08_multitask").experiment


def test_a_term_and_a_head_are_changed_by_their_names() -> None:
    changed = apply_overrides(E08, ["loss.terms.segmentation.weight=0.3", "heads.segmentation.groups=4"])
    assert {t.name: t.weight for t in changed.loss.every_term()} == {"criteria": 1.0, "segmentation": 0.3}
    assert changed.decoder is not None
    assert changed.decoder.groups == 4


def test_a_name_and_a_number_are_one_place() -> None:
    one, two = (apply_overrides(E08, [f"loss.terms.{place}.weight=0.3"]) for place in ("segmentation", "1"))
    assert one == two
    with pytest.raises(CalotError, match="one field is given twice"):
        apply_overrides(E08, ["loss.terms.segmentation.weight=0.3", "loss.terms.1.weight=0.4"])


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(CalotError, match=r"'segmentatoin' is not a place in a list of 2: criteria, segmentation"):
        apply_overrides(E08, ["loss.terms.segmentatoin.weight=0.3"])


def test_a_difference_names_the_term() -> None:
    (found,) = apply_overrides(E08, ["loss.terms.segmentation.weight=0.3"]).difference(E08)
    assert (found.field, found.baseline, found.value) == ("loss.terms.segmentation.weight", 0.5, 0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["heads=()"], r"loss term segmentation trains a head 'segmentation', and heads holds \['head'\]"),
        (["loss=BCE()"], "no term of loss trains the head 'segmentation'"),
        (["head.name=cvs"], "the criteria's head is called 'head'"),
        (["heads.segmentation.name=head"], "'head' is the name of two"),
        (["loss.terms.segmentation.name=criteria"], "each with a name of its own"),
        (["loss.terms.segmentation.name=two words"], "letters, digits and _"),
        (["loss.terms.segmentation.first_epoch=9"], r"loss\.terms\.segmentation\.first_epoch is after epoch 7"),
        (["loss.terms.segmentation.weight=-1"], "weight=-1"),
    ],
)
def test_heads_and_terms_that_do_not_fit_one_another_are_refused(changes: list[str], message: str) -> None:
    with pytest.raises(CalotError, match=message):
        apply_overrides(E08, changes)


def test_a_head_of_any_kind_and_a_term_for_it_are_added_on_the_command_line() -> None:
    changed = apply_overrides(
        find("e02_frozen_probe").experiment,
        [
            "heads=[LinearHead(name='early')]",
            "loss=CombinedLoss(terms=[Term(name='criteria',loss=BCE()),Term(name='early',loss=BCE(head='early'),weight=0.2)])",
        ],
    )
    assert changed.heads == (LinearHead(name="early"),)
    assert [(t.name, t.weight, sorted(t.loss.reaches)) for t in changed.loss.every_term()] == [
        ("criteria", 1.0, ["backbone", "head", "pooling"]),
        ("early", 0.2, ["backbone", "early", "pooling"]),
    ]
