"""What is read out of an operation: calls that need both frozen rules, the first passage held, passages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from make_run import make_predictions

from calot.criteria import CRITERIA
from calot.statistics.calls import Call, Passage, all_held, calls_of, first_held, passages
from calot.statistics.frozen import FrozenOnVal, freeze

YES, NO, UNSURE = Call.achieved, Call.not_achieved, Call.abstains


def frozen(*, threshold: float | None, limit: float | None) -> FrozenOnVal:
    """Val's values with the same threshold and limit for every criterion."""
    made = freeze(make_predictions())
    return replace(
        made,
        thresholds=replace(made.thresholds, values=dict.fromkeys(CRITERIA, threshold)),
        limits=replace(made.limits, values=dict.fromkeys(CRITERIA, limit)),
    )


def called(logits: list[float], *, values: FrozenOnVal | None, abstains: bool = True) -> list[Call]:
    column = np.array(logits, dtype=np.float32)
    every = np.repeat(column[:, None], 3, axis=1)
    found = calls_of(every, frozen=values, assessable=np.ones(len(logits), dtype=bool), abstains=abstains)
    assert found[0] == found[1] == found[2]
    return found[0]


@pytest.mark.parametrize(
    ("threshold", "limit", "expected"),
    [
        (0.0, 1.0, [NO, UNSURE, UNSURE, UNSURE, YES]),  # between -1 and 1 the set holds both labels
        (0.0, -1.0, [NO, UNSURE, UNSURE, UNSURE, YES]),  # there it holds neither
        (0.0, None, [NO, NO, YES, YES, YES]),  # too few videos for a limit
        (-3.0, 1.0, [UNSURE, UNSURE, UNSURE, UNSURE, YES]),  # the set says 0, the threshold 1
        (3.0, 1.0, [NO, UNSURE, UNSURE, UNSURE, UNSURE]),
        (None, 1.0, [Call.undecided] * 5),
    ],
)
def test_both_frozen_rules_must_say_the_same(threshold: float, limit: float, expected: list[Call]) -> None:
    assert called([-2.0, -0.5, 0.0, 0.5, 2.0], values=frozen(threshold=threshold, limit=limit)) == expected


def test_without_abstention_thresholds_decide_and_without_val_nothing_does() -> None:
    values = frozen(threshold=0.25, limit=1.0)
    assert called([-2.0, 0.0, 0.25, 2.0], values=values, abstains=False) == [NO, NO, YES, YES]
    assert called([5.0], values=None) == [Call.undecided]


def test_a_picture_that_cannot_be_judged_is_never_called() -> None:
    found = calls_of(np.full((2, 3), 9.0, np.float32), frozen=frozen(threshold=0.0, limit=1.0),
                     assessable=np.array([True, False]))  # fmt: skip
    assert found == [[YES, Call.not_assessable]] * 3


def test_all_three_must_hold_together_without_a_break_for_as_long_as_asked() -> None:
    whole = [NO, YES, YES, UNSURE, YES, YES, YES, YES]
    calls = [whole, [YES] * 8, [YES] * 8]
    seconds = np.arange(8)
    assert all_held(calls).tolist() == [False, True, True, False, True, True, True, True]
    assert first_held(calls, seconds=seconds, held=3) == Passage(what="held", start=4, end=7)
    assert first_held(calls, seconds=seconds, held=1) == Passage(what="held", start=1, end=2)
    assert first_held(calls, seconds=seconds, held=0) == Passage(what="held", start=1, end=1)
    assert first_held(calls, seconds=seconds, held=4) is None
    gap = np.array([0, 1, 2, 3, 4, 5, 16, 17])
    assert first_held(calls, seconds=gap, held=3) is None, "nobody looked in the gap"


def test_passages_end_where_the_value_changes_and_at_gaps() -> None:
    found = passages(["a", "a", "b", "b", "b"], seconds=np.array([0, 2, 4, 6, 12]), step=2)
    assert [(p.what, p.start, p.end) for p in found] == [("a", 0, 4), ("b", 4, 8), ("b", 12, 14)]
    assert [p.what for p in passages(["a", "b"], seconds=np.array([0, 1]), step=1, without="a")] == ["b"]
    assert passages([], seconds=np.array([], dtype=np.int64), step=1) == []
