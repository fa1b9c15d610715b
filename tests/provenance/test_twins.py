"""Two treatments that give the same, for every purpose, are twins."""

import json

import numpy as np
import pytest

from calot.provenance.twins import NEAR, alike, sketch

LOGITS = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)


def test_logits_within_a_hair_equal_ranks_and_equal_bytes_are_alike() -> None:
    mine = json.loads(json.dumps(sketch(LOGITS, digest="a")))
    assert alike(mine, sketch(LOGITS, digest="a")) == "the very same predictions"
    assert alike(mine, sketch(3 * LOGITS + 1, digest="b")) == "the same ranks of all clips"
    noise = np.random.default_rng(1).uniform(-1, 1, LOGITS.shape).astype(np.float32)
    assert alike(mine, sketch(LOGITS + 0.9 * NEAR * noise, digest="b")) == "the same logits within 0.0001"


@pytest.mark.parametrize("by", [3e-4, 1e-2, 1.0])
def test_other_logits_are_not(by: float) -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, LOGITS.shape).astype(np.float32)
    assert alike(sketch(LOGITS, digest="a"), sketch(LOGITS + by * noise, digest="b")) is None


def test_other_clips_lines_of_an_older_calot_and_nothing_at_all_are_not() -> None:
    mine = sketch(LOGITS, digest="a")
    assert alike(mine, sketch(LOGITS[:-1], digest="b")) is None
    assert alike(mine, {"digest": "b"}) is None
    assert alike(sketch(LOGITS[:0], digest="a"), sketch(LOGITS[:0], digest="b")) is None
